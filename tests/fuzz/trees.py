"""Trees that bytes describe: the writer of EROFS refuses one, or our own reader finds all of it in the image."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from bootc_live.config.model import Compression
from bootc_live.formats.tar.sparse import Extent
from bootc_live.rootfs.layouts.erofs.file_store import file_store
from bootc_live.rootfs.layouts.erofs.layout import ErofsBuilder
from bootc_live.rootfs.layouts.index.layout import write_metadata
from bootc_live.rootfs.tree.node import Node, walk
from tests.unit.erofs_reader import Found, Image
from tests.unit.test_erofs_writer import same_fields

_MOST_NODES: Final = 200
# Where the data of an index begins, and so the most that its metadata can be.
_DATA: Final = 2**20
_BLOCK: Final = 512
_LENGTHS: Final = (
    0,
    1,
    2,
    200,
    243,
    244,
    254,
    255,
    256,
    257,
    447,
    448,
    499,
    500,
    511,
    512,
    600,
    4094,
    4095,
    4096,
    70_000,
)
_SIZES: Final = (
    0,
    1,
    255,
    256,
    511,
    512,
    513,
    2047,
    2048,
    2049,
    4095,
    4096,
    4097,
    12_288,
    65_535,
    65_536,
    131_072,
    140_000,
)
_SPACES: Final = (
    b"user.",
    b"trusted.",
    b"security.",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
    b"odd.",
    b"",
)
_NUMBERS: Final = (
    0,
    1,
    -1,
    2**12,
    0o7777,
    0o10000,
    2**20,
    2**31,
    2**32 - 1,
    2**32,
    2**63 - 1,
    2**63,
    -(2**63),
    10**9,
    10**9 - 1,
)


class _Script:
    """Bytes that are read as choices; behind their end, all are the first one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def ended(self) -> bool:
        return self._at >= len(self._data)

    def take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self) -> int:
        return int.from_bytes(self.take(1), "big")

    def text(self) -> bytes:
        """Return a few bytes as they are, or some repeated to a length that matters."""
        length = self.number()
        if length < 224:
            return self.take(length % 16)
        part = self.take(2) or b"x"
        length = _LENGTHS[(length - 224) % len(_LENGTHS)]
        return (part * (length // len(part) + 1))[:length]

    def value(self) -> int:
        """Return a number of one byte, or one that is at a bound."""
        number = self.number()
        return number if number < 224 else _NUMBERS[(number - 224) % len(_NUMBERS)]

    def content(self) -> bytes:
        """Return the data of a file: what compresses well, not at all, or both."""
        kind, size = divmod(self.number(), 64)
        length = _SIZES[size] if size < len(_SIZES) else 97 * size
        seed = self.take(3) or b"x"
        plain = (seed * (length // len(seed) + 1))[:length]
        noise = b"".join((at * 2_654_435_761 % 2**32).to_bytes(4, "little") for at in range(length // 4 + 1))[:length]
        return (plain, noise, plain[: length // 2] + noise[length // 2 :], bytes(length))[kind]


@dataclass
class _Planned:
    """A tree, the data its files point into, and what each of them holds."""

    root: Node = field(default_factory=lambda: Node("dir", children={}))
    data: bytearray = field(default_factory=bytearray)
    contents: dict[int, bytes] = field(default_factory=dict)

    def place(self, stored: bytes) -> int:
        """Lay data down as a tar does, behind a header; returns where. What fills a block may be anything."""
        self.data += b"h" * _BLOCK
        at = _DATA + len(self.data)
        self.data += stored + b"p" * (-len(stored) % _BLOCK)
        return at


def trees(data: bytes) -> None:
    """Make a tree, an image of it, and compare."""
    planned, image = _made(data)
    _compare(planned, Image(image))


def image_of(data: bytes) -> tuple[bytes, dict[bytes, bytes | None]]:
    """Return the image, and what a reader has to find: the paths, with the data of files and the targets of links."""
    planned, image = _made(data)
    texts = {**planned.contents, **{id(node): node.link for node in walk(planned.root) if node.kind == "symlink"}}
    return image, {path: texts.get(id(node)) for path, node in _paths(planned.root).items()}


def _made(data: bytes) -> tuple[_Planned, bytes]:
    """Make a tree and an image of it; the first byte chooses the form."""
    script = _Script(data)
    form = script.number()
    planned = _planned(script)
    writers: list[Callable[[_Planned], bytes]] = [_index, *(_erofs(compression) for compression in Compression)]
    return planned, writers[form % len(writers)](planned)


def _planned(script: _Script) -> _Planned:
    planned = _Planned()
    nodes, directories = [planned.root], [planned.root]
    while not script.ended and len(nodes) < _MOST_NODES:
        what, node = script.number() % 10, nodes[-1]
        if what == 0:
            node.mode, node.uid, node.gid = script.value(), script.value(), script.value()
        elif what == 1:
            node.mtime, node.mtime_ns = script.value(), script.value()
        elif what == 2:
            name = _SPACES[script.number() % len(_SPACES)] + script.text()
            node.xattrs = {**node.xattrs, name: script.text()}
        else:
            holder = directories[script.number() % len(directories)]
            made = nodes[script.number() % len(nodes)] if what == 3 else _node(what, script, planned)
            if made in directories:
                # No two names lead to one directory: nothing could make them.
                continue
            holder.directory[script.text()] = made
            nodes.append(made)
            if made.children is not None:
                directories.append(made)
    return planned


def _node(what: int, script: _Script, planned: _Planned) -> Node:
    match what:
        case 4 | 5:
            return Node("dir", children={})
        case 6:
            target = script.text()
            return Node("symlink", link=target, size=len(target))
        case 7:
            kind = ("char", "block", "fifo")[script.number() % 3]
            return Node(kind, device=(script.value(), script.value()) if kind != "fifo" else (0, 0))
        case 8:
            return _sparse(script, planned)
        case _:
            content = script.content()
            node = Node("file", size=len(content), offset=planned.place(content))
            planned.contents[id(node)] = content
            return node


def _sparse(script: _Script, planned: _Planned) -> Node:
    """Return a file with holes; steps and lengths have a unit in common, which need not be a block's."""
    unit = (1, 7, 512, 600, 4096, 8192)[script.number() % 6]
    whole, stored, parts = bytearray(), bytearray(), list[tuple[int, int, int]]()
    for number in range(script.number() % 6):
        whole += bytes(script.number() % 16 * unit)
        length = (script.number() % 8 + 1) * unit
        parts.append((len(whole), length, len(stored)))
        piece = bytes([number + 1]) * length
        whole += piece
        stored += piece
    whole += bytes(script.number() * 31)
    at = planned.place(bytes(stored))
    extents = tuple(Extent(start, length, at + offset) for start, length, offset in parts)
    node = Node("file", size=len(whole), offset=at, extents=extents)
    planned.contents[id(node)] = bytes(whole)
    return node


def _index(planned: _Planned) -> bytes:
    fd = os.memfd_create("fuzz")
    try:
        os.pwrite(fd, planned.data, _DATA)
        write_metadata([*walk(planned.root)], fd, _DATA, len(planned.data))
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def _erofs(compression: Compression) -> Callable[[_Planned], bytes]:
    def made(planned: _Planned) -> bytes:
        def read(start: int, length: int) -> bytes:
            return bytes(planned.data[start - _DATA : start - _DATA + length])

        fd = os.memfd_create("fuzz")
        try:
            with file_store(fd, compression) as store:
                builder = ErofsBuilder("", fd, "", store)
                for node in walk(planned.root):
                    if node.kind == "file" and node.size:
                        whole = node.extents is None
                        builder._files[node.offset] = (
                            store.put(read, node.offset, node.size)
                            if whole
                            else store.put_sparse(read, node.size, node.extents or ())
                        )
                store.flush()
                builder._merging.root = planned.root
                builder._write(keep_times=True)
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    return made


def _compare(planned: _Planned, image: Image) -> None:
    """Compare paths, what inodes say, data, links, and that no two inodes share a block."""
    wanted = _paths(planned.root)
    found = image.tree()
    assert found.keys() == wanted.keys()
    inodes: dict[int, Found] = {}
    nodes: dict[int, Node] = {}
    for path, node in wanted.items():
        got = found[path]
        shown = repr(path[:80])
        # What is nothing but the name of a space is no attribute of any.
        node.xattrs = {name: value for name, value in node.xattrs.items() if name not in _SPACES[:3]}
        same_fields(node, got, shown)
        if node.kind in ("file", "symlink"):
            assert got.data == (planned.contents[id(node)] if node.kind == "file" else node.link), shown
        assert nodes.setdefault(got.nid, node) is node, f"{shown} shares an inode"
        inodes[got.nid] = got
    assert len(inodes) == image.inodes == len(list(walk(planned.root)))
    links = _links(planned.root)
    for nid, got in inodes.items():
        assert got.links == links[id(nodes[nid])]
    taken = sorted(span for spans in image.taken.values() for span in spans if span[1])
    for (first, count), (following, _) in pairwise(taken):
        assert first + count <= following, "two files share a block"


def _paths(root: Node) -> dict[bytes, Node]:
    found, todo = {b"": root}, [(b"", root)]
    while todo:
        path, holder = todo.pop()
        for name, node in holder.directory.items():
            below = path + b"/" + name if path else name
            found[below] = node
            if node.children is not None:
                todo.append((below, node))
    return found


def _links(root: Node) -> dict[int, int]:
    """Return how many links each inode has, as stat(2) counts them on any file system of Linux."""
    found: dict[int, int] = {}
    for node in walk(root):
        if node.children is None:
            continue
        below = list(node.children.values())
        found[id(node)] = 2 + sum(child.children is not None for child in below)
        for child in below:
            if child.children is None:
                found[id(child)] = found.get(id(child), 0) + 1
    return found
