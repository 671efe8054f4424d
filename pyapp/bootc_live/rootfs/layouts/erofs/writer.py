"""Write the EROFS metadata of a tree: inodes, the data behind them, and directories."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from bootc_live.formats.erofs.structures import (
    DIRENT_SIZE,
    FLAT_INLINE,
    FLAT_PLAIN,
    INODE_SIZE,
    SLOT,
    check_dirent,
    device_number,
    dirent_block,
    packed_inode,
    xattr_body,
    xattr_count,
)
from bootc_live.rootfs.tree.node import PATH_MAX, Node, linked, path_of
from bootc_live.system.files import write_at

_PAGE = 4096
_WINDOW = 2**18
# The size of inodes, directories and maps of one image (SECURITY.md).
METADATA_MOST = 2**30
# So few attributes are encoded again faster than looked up.
_FEW = 8


class Room(NamedTuple):
    """The room behind an inode: for a table at a multiple of ``align``, then for bytes that must not cross a block."""

    table: int = 0
    inline: int = 0
    align: int = 4


NO_ROOM = Room()


class Body(NamedTuple):
    """The description of a file's data in an inode: layout, the union for it, and the bytes in the room behind it.

    They begin at a multiple of ``align``, as in its room.
    """

    layout: int
    union: int
    behind: bytes = b""
    align: int = 4


class FileBodies(Protocol):
    """The location of regular files' data; called for each file in the order of the tree."""

    def room(self, node: Node) -> Room:
        """Return the room that a file needs behind its inode; raise ValueError as it follows the file's name."""

    def place(self, node: Node, free: int) -> int:
        """Write data from the first free byte behind all inodes on; return the next free one, or raise ValueError."""

    def body(self, node: Node) -> Body:
        """Return the description, with as many bytes as the room has."""


@dataclass(frozen=True)
class Geometry:
    """The bits of a block, and the byte where inodes begin; ``inline`` allows ends of directories behind them.

    Inodes are numbered from the beginning of the block of ``begin``.
    """

    block_bits: int
    begin: int
    inline: bool = False

    @property
    def block(self) -> int:
        """Bytes of a block."""
        return 1 << self.block_bits

    @property
    def inline_max(self) -> int:
        """The longest end that fits behind any attributes without crossing a block."""
        return self.block - INODE_SIZE

    @property
    def origin(self) -> int:
        """The byte from which inodes are numbered."""
        return self.begin // self.block * self.block

    def slot(self, offset: int) -> int:
        """Return the number of the inode at an offset."""
        return (offset - self.origin) // SLOT


class Metadata(NamedTuple):
    """The metadata that was written: number of inodes, number of the root, first free byte behind."""

    inodes: int
    root: int
    end: int


@dataclass(eq=False, slots=True)
class _Directory:
    """Names by block, the parent (None for the root), its first block, the bytes inlined, and the number of links."""

    blocks: list[list[bytes]]
    inline: int
    parent: Node | None = None
    data_block: int = 0
    links: int = 2


def write_tree(nodes: list[Node], fd: int, geometry: Geometry, bodies: FileBodies, limit: int) -> Metadata:
    """Write a tree's inodes and directories to a file, up to the offset ``limit``; the same tree gives the same bytes.

    ``nodes`` are those of ``walk``. A shorter file is extended to their end. Raise OSError, and ValueError, before
    anything is written, that begins with the path of what Linux or EROFS cannot represent.
    """
    # Everything is computed twice instead of kept: there may be hundreds of thousands of files, and little memory.
    root = node = nodes[0]
    writer = _Writer(fd, geometry, bodies)
    end, most = geometry.begin, min(limit, geometry.begin + METADATA_MOST)
    try:
        for node in nodes:
            end = _within(writer.place(node, end), most)
        end = _within(writer.place_data(-(-end // geometry.block)), most)
        for node in nodes:
            if node.kind == "file":
                end = _within(bodies.place(node, end), limit)
    except ValueError as error:
        raise ValueError(f"{path_of(root, node)} {error}") from error
    writer.relate(root)
    for number, node in enumerate(nodes, 1):
        writer.emit(node, number)
    writer.flush()
    if os.fstat(fd).st_size < end:
        os.ftruncate(fd, end)
    return Metadata(len(nodes), geometry.slot(root.place), end)


class _Window:
    """Writes data with ascending offsets in large pieces, with zeros in between."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._start = self._end = 0
        self._held = bytearray()

    def put(self, offset: int, data: bytes) -> None:
        gap = offset - self._end
        if not self._held or not 0 <= gap < _PAGE or len(self._held) > _WINDOW:
            # Zeros in front of the first piece would overwrite other data.
            self.flush()
            self._start, gap = offset, 0
        if gap:
            self._held += bytes(gap)
        self._held += data
        self._end = offset + len(data)

    def flush(self) -> None:
        if self._held:
            write_at(self._fd, self._start, self._held)
            self._held = bytearray()


class _Writer:
    def __init__(self, fd: int, geometry: Geometry, bodies: FileBodies) -> None:
        self._geometry = geometry
        # Inodes have ascending offsets, and so have the blocks of directories and links.
        self._inodes, self._blocks = _Window(fd), _Window(fd)
        self._block, self._origin, self._inline_max = geometry.block, geometry.origin, geometry.inline_max
        self._bodies = bodies
        self._directories: dict[int, _Directory] = {}
        # Numbers of names, of inodes that have several.
        self._names: Counter[int] = Counter()
        # What has blocks of its own, in the order of the tree: directories, and links whose targets are too long to be
        # inlined, with the first block of each target.
        self._with_blocks: list[Node] = []
        self._long_links: dict[int, int] = {}
        # Attributes that several inodes share, such as those of a global pax header, by the mapping's identity; None
        # for those of one inode so far. The tree keeps the mappings alive.
        self._shared: dict[int, bytes | None] = {}
        self._placed = False

    def place(self, node: Node, after: int) -> int:
        """Find the place of an inode behind the offset ``after``; return the end of the inode with its room."""
        _check(node)
        if node.children is not None:
            self._with_blocks.append(node)
            blocks = self._split(sorted([*node.children, b".", b".."]))
            tail = _length(blocks[-1])
            inline = tail if self._geometry.inline and tail <= self._inline_max // 2 else 0
            self._directories[id(node)] = _Directory(blocks, inline)
        elif node.kind == "symlink" and node.size > self._inline_max:
            self._with_blocks.append(node)
        elif node.kind in ("char", "block"):
            # Raises here, while the inode can still be named.
            device_number(*node.device)
        room, head = self._room(node), INODE_SIZE
        if node.xattrs:
            head += len(self._xattrs(node.xattrs))
        head = -(-head // room.align) * room.align + room.table
        node.place = self._free(after, head, room.inline)
        return node.place + head + room.inline

    def _xattrs(self, xattrs: Mapping[bytes, bytes]) -> bytes:
        if len(xattrs) <= _FEW:
            return xattr_body(xattrs)
        body = self._shared.get(id(xattrs))
        if body is None:
            body = xattr_body(xattrs)
            # Each is used twice: only attributes that occur again before all are placed are shared.
            if not self._placed:
                self._shared[id(xattrs)] = body if id(xattrs) in self._shared else None
        return body

    def _room(self, node: Node) -> Room:
        if node.kind == "file":
            return self._bodies.room(node)
        if node.children is not None:
            inline = self._directories[id(node)].inline
            return Room(inline=inline) if inline else NO_ROOM
        if node.kind == "symlink" and node.size <= self._inline_max:
            return Room(inline=node.size)
        return NO_ROOM

    def place_data(self, block: int) -> int:
        """Place directories and long link targets from a block on; return the first free byte, at a page."""
        self._placed = True
        for node in self._with_blocks:
            if node.children is not None:
                directory = self._directories[id(node)]
                directory.data_block = block
                block += len(directory.blocks) - (1 if directory.inline else 0)
            else:
                self._long_links[id(node)] = block
                block += -(-node.size // self._block)
        return _aligned(block * self._block, _PAGE)

    def _free(self, offset: int, head: int, tail: int) -> int:
        """Return the next place where neither an inode nor its inline tail crosses a block."""
        block = self._block
        offset = _aligned(offset, SLOT)
        while offset % block > block - INODE_SIZE or (tail and (offset + head) % block + tail > block):
            offset += SLOT
        return offset

    def _split(self, names: list[bytes]) -> list[list[bytes]]:
        blocks: list[list[bytes]] = []
        used = self._block
        for name in names:
            check_dirent(name)
            need = DIRENT_SIZE + len(name)
            if used + need > self._block:
                blocks.append([])
                used = 0
            blocks[-1].append(name)
            used += need
        return blocks

    def relate(self, root: Node) -> None:
        """Count links and find parents."""
        several = linked(root)
        for node in self._with_blocks:
            for child in (node.children or {}).values():
                if child.children is not None:
                    self._directories[id(child)].parent = node
                    self._directories[id(node)].links += 1
                elif id(child) in several:
                    self._names[id(child)] += 1

    def flush(self) -> None:
        """Write the rest."""
        self._inodes.flush()
        self._blocks.flush()

    def emit(self, node: Node, number: int) -> None:
        """Write an inode and its data."""
        size, links = node.size, self._names.get(id(node), 1)
        if node.kind == "file":
            body = self._bodies.body(node)
        elif node.children is not None:
            directory = self._directories[id(node)]
            (body, size), links = self._directory(node, directory), directory.links
        elif node.kind == "symlink":
            block = self._long_links.get(id(node))
            if block is None:
                body = Body(FLAT_INLINE, 0, node.link)
            else:
                body = Body(FLAT_PLAIN, block)
                self._blocks.put(block * self._block, node.link)
        else:
            body = Body(FLAT_PLAIN, device_number(*node.device) if node.kind in ("char", "block") else 0)
        xattrs = self._xattrs(node.xattrs) if node.xattrs else b""
        data = packed_inode(
            node.kind,
            body.layout,
            xattr_count(xattrs),
            node.mode,
            size,
            body.union,
            number,
            node.uid,
            node.gid,
            node.mtime,
            node.mtime_ns,
            links,
        )
        data += xattrs
        if body.behind:
            data = data.ljust(_aligned(len(data), body.align), b"\0") + body.behind
        self._inodes.put(node.place, data)

    def _directory(self, node: Node, directory: _Directory) -> tuple[Body, int]:
        size, last, origin = 0, b"", self._origin
        children, dots = node.directory, {b".": node, b"..": directory.parent or node}
        for index, names in enumerate(directory.blocks):
            targets = [dots.get(name) or children[name] for name in names]
            last = dirent_block(
                [(name, (node.place - origin) // SLOT, node.kind) for name, node in zip(names, targets, strict=True)]
            )
            if len(last) > self._block:
                raise ValueError("has a directory block that is too long")
            size = index * self._block + len(last)
            if index + 1 < len(directory.blocks) or not directory.inline:
                self._blocks.put((directory.data_block + index) * self._block, last)
        if directory.inline:
            return Body(FLAT_INLINE, directory.data_block, last), size
        return Body(FLAT_PLAIN, directory.data_block), size


def _check(node: Node) -> None:
    """Raise ValueError for what an inode cannot represent."""
    if not (0 <= node.mode < 1 << 12 and 0 <= node.uid < 1 << 32 and 0 <= node.gid < 1 << 32):
        raise ValueError(f"has the owner and mode {node.uid}:{node.gid} {node.mode:o}, which no inode can have")
    if not (-(1 << 63) <= node.mtime < 1 << 63 and 0 <= node.mtime_ns < 10**9 and 0 <= node.size < 1 << 63):
        raise ValueError(f"has the time {node.mtime} and the size {node.size}, which no inode can have")
    if node.kind == "symlink" and not (0 < len(node.link) == node.size <= PATH_MAX and b"\0" not in node.link):
        raise ValueError("is a symbolic link that no inode can represent")
    if node.children is not None and (b"." in node.children or b".." in node.children):
        raise ValueError("has a second '.' or '..'")


def _within(end: int, limit: int) -> int:
    if end > limit:
        raise ValueError(f"is beyond the {limit} bytes of metadata that are allowed")
    return end


def _length(names: list[bytes]) -> int:
    return sum(DIRENT_SIZE + len(name) for name in names)


def _aligned(offset: int, unit: int) -> int:
    return -(-offset // unit) * unit
