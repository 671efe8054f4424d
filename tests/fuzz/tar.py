"""Tar headers: whoever reads a tar finds the same members in it, and none that cannot be."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar
from unittest.mock import patch

from bootc_live.base.numbers import LARGEST_SIZE
from bootc_live.formats.tar import reader as tar_reader
from bootc_live.formats.tar.header import checksum_matches
from bootc_live.formats.tar.reader import Buffer, Member, read_members
from bootc_live.rootfs.tree.follower import TarFollower
from bootc_live.rootfs.tree.merge import Merging
from bootc_live.rootfs.tree.node import check_name, walk
from bootc_live.source.archive.reader import HeaderBuffer
from bootc_live.source.archive.tar import Entry, StreamBuffer, chunks_of, read_entries

_KINDS: Final = frozenset({"file", "dir", "symlink", "hardlink", "char", "block", "fifo"})
# Longer members are not read: they are holes.
_MOST_CONTENT: Final = 2**20
# How a stream is cut.
_PIECE: Final = 700
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class _Memory:
    """A Reader of bytes at hand, as far as headers need one."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def peek(self, offset: int, length: int) -> bytes:
        return self.read(offset, length)

    @contextmanager
    def stream(self, offset: int, length: int) -> Iterator[Iterator[bytes]]:
        yield iter([self.read(offset, length)])

    def release(self, offset: int, length: int) -> None:
        """Keep everything."""

    def interrupt(self) -> None:
        """Do nothing."""


def headers(data: bytes) -> None:
    """Read a tar in every way there is, and merge its members."""
    with patch.object(tar_reader, "checksum_matches", _any_checksum):
        members, refused = _read(read_members, data)
        for member in members:
            _check(member, len(data))
        for found, error in (_read(read_members, HeaderBuffer(_Memory(data))), _growing(data)):
            assert (found, error is None) == (members, refused is None), "another way of reading finds something else"
        _archive(data, members, refused)
    _merge(members)
    _merge(members + members)
    if refused is not None:
        raise refused


def _any_checksum(header: bytes, field: bytes) -> bool:
    """Let every header pass: a fuzzer does not guess sums."""
    checksum_matches(header, field)
    return True


def _read(reader: Callable[[Buffer], Iterator[_Found]], buffer: Buffer) -> tuple[list[_Found], ValueError | None]:
    """Return what a reader finds before its error, and the error."""
    found: list[_Found] = []
    try:
        found.extend(reader(buffer))
    except ValueError as error:
        return found, error
    return found, None


def _check(member: Member, size: int) -> None:
    assert member.kind in _KINDS
    assert 0 <= member.size <= LARGEST_SIZE
    assert member.offset >= 0
    assert 0 <= member.mode <= 0o7777
    assert 0 <= member.mtime_ns < 10**9
    for text in (member.name, member.link, *member.xattrs):
        assert b"\0" not in text
    assert member.kind == "file" or (member.size, member.extents) == (0, None)
    if member.extents is None:
        assert member.offset + member.size <= size
        return
    position, data = 0, member.offset
    for extent in member.extents:
        assert position <= extent.start
        assert extent.length > 0
        assert extent.data == data
        position, data = extent.start + extent.length, data + extent.length
    assert position <= member.size
    assert data <= size


def _growing(data: bytes) -> tuple[list[Member], ValueError | None]:
    """Read it as a layer is read that has come whole."""
    fd = os.memfd_create("fuzz")
    try:
        os.write(fd, data)
        tar = TarFollower(fd, 0, keep=True)
        tar.end(len(data))
        return _read(read_members, tar)
    finally:
        os.close(fd)


def _archive(data: bytes, members: list[Member], refused: ValueError | None) -> None:
    """Read it as an archive of images: by position, and as a stream that is not looked ahead into."""
    reader = _Memory(data)
    entries, error = _read(read_entries, HeaderBuffer(reader))
    assert len(entries) == len(members) or error is not None
    assert refused is None or error is not None
    contents = [_content(entry, chunks_of(entry, reader.stream)) for entry in entries]
    stream = StreamBuffer(data[at : at + _PIECE] for at in range(0, len(data), _PIECE))

    @contextmanager
    def opener(offset: int, length: int) -> Iterator[Iterator[bytes]]:
        yield stream.data(offset, length)

    def with_content(buffer: Buffer) -> Iterator[tuple[Entry, bytes | None]]:
        # Before the next header is looked for.
        for entry in read_entries(buffer):
            yield entry, _content(entry, chunks_of(entry, opener))

    came, late = _read(with_content, stream)
    assert (late is None) == (error is None), "a stream is refused, or the file is"
    assert came[: len(entries)] == list(zip(entries, contents, strict=True)), "a stream holds something else"
    # That a member ends behind the end of the stream is not known before.
    assert len(came) - len(entries) <= (error is not None)


def _content(entry: Entry, chunks: Iterator[bytes]) -> bytes | None:
    return b"".join(chunks) if entry.size <= _MOST_CONTENT else None


def _merge(members: list[Member]) -> None:
    merging = Merging()
    try:
        for number, member in enumerate(members):
            # In two layers, so that whiteouts have something to hide.
            merging.apply(member, 2 * number // len(members), 0)
    except ValueError:
        # The tree holds what came before.
        pass
    for node in walk(merging.root):
        for name in node.children or ():
            check_name(name)
