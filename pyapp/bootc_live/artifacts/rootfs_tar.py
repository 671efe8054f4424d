"""Write a merged tree as one tar: names in byte order, so that the same tree gives the same bytes."""

from __future__ import annotations

import lzma
import os
import zlib
from collections.abc import Callable, Iterator

from bootc_live.base.errors import ConfigError, RootfsError
from bootc_live.config.model import Compression
from bootc_live.formats.tar.writer import END, NewMember, header, padding
from bootc_live.rootfs.layouts.erofs.compressor import compressor
from bootc_live.rootfs.tree.node import Node

_PIECE = 4 * 2**20
_NANO = 1_000_000_000

Compressor = Callable[[Iterator[bytes]], Iterator[bytes]]


def tar_of(root: Node, data: int) -> Iterator[bytes]:
    """Yield the tar of a tree whose files are in the data file, a descriptor; raise RootfsError."""
    names: dict[int, bytes] = {}
    todo = [(b".", root)]
    while todo:
        name, node = todo.pop()
        try:
            yield header(_member(node, name, names))
        except ValueError as error:
            shown = name.decode(errors="backslashreplace")
            raise RootfsError(f"{shown!r} {error}: no tar can hold that", hint="build the image again") from error
        if node.children is not None:
            children = sorted(node.children.items(), reverse=True)
            todo += [(os.path.join(name, child), below) for child, below in children]
        elif names.setdefault(id(node), name) == name and node.kind == "file":
            yield from _content(node, data)
            yield padding(node.size)
    yield END


def compression_for(path: str) -> Compressor:
    """Return how a file of this name is compressed; raise ConfigError for an unknown ending."""
    for ending, found in _ENDINGS.items():
        if path.endswith(ending):
            return found
    raise ConfigError(f"{path!r} has an unknown ending", hint=f"name a file that ends in {', '.join(_ENDINGS)}")


def _member(node: Node, name: bytes, names: dict[int, bytes]) -> NewMember:
    first = names.get(id(node), name)
    if first != name:
        return NewMember(name, "hardlink", link=first, mtime=node.mtime * _NANO + node.mtime_ns)
    return NewMember(
        name,
        node.kind,
        mode=node.mode,
        uid=node.uid,
        gid=node.gid,
        size=node.size if node.kind == "file" else 0,
        mtime=node.mtime * _NANO + node.mtime_ns,
        link=node.link,
        device=node.device,
        xattrs=node.xattrs,
    )


def _content(node: Node, data: int) -> Iterator[bytes]:
    if node.extents is None:
        yield from _part(data, node.offset, node.size)
        return
    at = 0
    for extent in node.extents:
        yield from _zeros(extent.start - at)
        yield from _part(data, extent.data, extent.length)
        at = extent.start + extent.length
    yield from _zeros(node.size - at)


def _part(data: int, begin: int, length: int) -> Iterator[bytes]:
    end = begin + length
    while begin < end:
        piece = os.pread(data, min(_PIECE, end - begin), begin)
        if not piece:
            raise ValueError("has data beyond the end of its layer")
        yield piece
        begin += len(piece)


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield bytes(min(count, _PIECE))
        count -= _PIECE


def _plain(pieces: Iterator[bytes]) -> Iterator[bytes]:
    return pieces


def _gzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    # No time in the header: the same tar gives the same bytes.
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


def _xz(pieces: Iterator[bytes]) -> Iterator[bytes]:
    packer = lzma.LZMACompressor()
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


def _zstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield frames that state their size, which several processes can decode."""
    compress, _ = compressor(Compression.ZSTD, _PIECE + _PIECE // 8)
    for block in _blocks(pieces):
        yield compress(block) or _stored(block)


def _blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= _PIECE:
            yield bytes(held[:_PIECE])
            del held[:_PIECE]
    if held:
        yield bytes(held)


def _stored(block: bytes) -> bytes:
    """Return a zstd frame of bytes that do not become smaller (RFC 8878, 3.1.1): blocks of at most 128 KiB."""
    parts = [b"\x28\xb5\x2f\xfd\xa0", len(block).to_bytes(4, "little")]
    for begin in range(0, len(block), 2**17):
        raw = block[begin : begin + 2**17]
        last = begin + 2**17 >= len(block)
        parts += [(len(raw) << 3 | last).to_bytes(3, "little"), raw]
    return b"".join(parts)


_ENDINGS: dict[str, Compressor] = {
    ".tar": _plain,
    ".tar.gz": _gzip,
    ".tgz": _gzip,
    ".tar.zst": _zstd,
    ".tar.xz": _xz,
    ".txz": _xz,
}
