"""Kernels, UKIs and what they are compressed with; archives of initramfs."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Final
from unittest.mock import patch

from bootc_live.base.errors import ImageError
from bootc_live.base.peekable import PeekableStream
from bootc_live.formats.cpio import CpioFile, header, padding, read_headers, trailer
from bootc_live.formats.pe import is_uki, sections
from bootc_live.rootfs.boot_files.initramfs import holds
from bootc_live.rootfs.boot_files.zboot import unwrap
from bootc_live.system import decompress

# What of a kernel is unpacked: eight kilobytes may be eight megabytes.
_MOST: Final = 2**20
_LONGEST_NAME: Final = 4095
# Inode, mode, five more, size, four more, length of the name, sum.
_HEAD: Final = re.compile(rb"07070[12].{8}(.{8}).{32}(.{8}).{32}(.{8}).{8}".replace(b".", b"[0-9A-Fa-f]"))


def kernels(data: bytes) -> None:
    """Look for the sections of a PE file, and for a kernel inside of the kernel."""

    def read(offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length >= 0
        return data[offset : offset + length]

    with suppress(ImageError):
        found = sections(read, len(data))
        for offset, length in found.values():
            assert 0 <= offset <= offset + length <= len(data)
        is_uki(found)
    with _no_processes():
        pieces = unwrap(read, len(data))
        if pieces is not None:
            _some(pieces)


def archives(data: bytes) -> None:
    """Read an initramfs, whatever pieces it comes in; write one, and read that."""
    read = [_read(data, step) for step in (1, 7, 4096)]
    assert read[0] == read[1] == read[2], "it depends on the pieces"
    assert read[0] == _as_the_kernel(data), "the kernel reads something else"
    with _no_processes():
        assert holds(iter([data]), "\0") in (False, None)
        for member in read[0][0]:
            assert holds(iter([data]), member.name) is True
    _write(data)


def _read(data: bytes, step: int) -> tuple[list[CpioFile], bool, int]:
    """Return the members, whether the archive is damaged, and where reading ended."""
    feed = PeekableStream(data[at : at + step] for at in range(0, len(data), step))
    members: list[CpioFile] = []
    try:
        members.extend(read_headers(feed))
    except ValueError:
        return members, True, 0
    for member in members:
        assert 0 < member.offset <= member.offset + member.size <= len(data)
        assert "\0" not in member.name
    return members, False, feed.position


def _as_the_kernel(data: bytes) -> tuple[list[CpioFile], bool, int]:
    """Return what `_read` does, of the whole at once: do_start() to do_skip() of the kernel's init/initramfs.c."""
    members: list[CpioFile] = []
    at = 0
    while True:
        at += len(data[at:]) - len(data[at:].lstrip(b"\0"))
        if data[at : at + 1] != b"0" or at % 4:
            return members, False, at
        head = _HEAD.match(data, at)
        size, length = (int(head[2], 16), int(head[3], 16)) if head else (0, 0)
        begin = at + 110 + length + -(110 + length) % 4
        name = data[at + 110 : at + 110 + length]
        if head is None or not 0 < length <= _LONGEST_NAME + 1 or len(name) < length:
            return members, True, 0
        begin, text = min(begin, len(data)), os.fsdecode(name.partition(b"\0")[0])
        if text != "TRAILER!!!":
            members.append(CpioFile(text, int(head[1], 16), size, begin))
        if begin + size > len(data):
            return members, True, 0
        at = min(begin + size + -size % 4, len(data))


def _write(data: bytes) -> None:
    """Make an archive of what the bytes say: lines of names, each with a content of its own."""
    made, wanted = b"", []
    for number, name in enumerate(data.split(b"\n")[:20]):
        if not name or b"\0" in name or len(name) > _LONGEST_NAME or name == b"TRAILER!!!":
            continue
        text = name.decode("utf-8", "surrogateescape")
        made += header(text, 0o100000 | len(name), len(name), number)
        wanted.append((text, 0o100000 | len(name), len(name), len(made)))
        made += name + padding(len(name))
    members, damaged, end = _read(made + trailer(), 512)
    assert not damaged
    assert [tuple(member) for member in members] == wanted
    assert end == len(made + trailer())


@contextmanager
def _no_processes() -> Iterator[None]:
    """Look at what zstd and lz4 would be given, without starting a process for each input."""

    def through(_kind: str, chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
        yield from chunks

    with patch.multiple(decompress, through=through):
        yield


def _some(pieces: Iterator[bytes]) -> None:
    done = 0
    for piece in pieces:
        done += len(piece)
        if done > _MOST:
            return
