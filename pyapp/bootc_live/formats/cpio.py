"""The cpio format "newc" that kernels unpack initramfs images from.

As in Documentation/driver-api/early-userspace/buffer-format.rst: a header of
hexadecimal numbers, the name, the data, each padded to four bytes.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bootc_live.base.errors import LandingError
from bootc_live.base.peekable import PeekableStream

_MAGIC = b"070701"
# "2" is the same with checksums, which kernels do not look at.
_HEAD = re.compile(rb"07070[12]([0-9A-Fa-f]{104})")
_HEADER = 110
_TRAILER = "TRAILER!!!"
_MOST = 0xFFFFFFFF
_LONGEST_NAME = 4096


class CpioFile(NamedTuple):
    """A member: ``size`` bytes of data at ``offset``, counted from where reading began."""

    name: str
    mode: int
    size: int
    offset: int


def header(name: str, mode: int, size: int, ino: int, mtime: int = 0) -> bytes:
    """Give what stands before the data of a member that belongs to root.

    ``mode`` holds the type of file, too; ``ino`` tells members apart. Raises LandingError for data that is too large.
    """
    return _header(os.fsencode(name) + b"\0", (ino, mode, 0, 0, 2 if stat.S_ISDIR(mode) else 1, mtime, size), name)


def trailer() -> bytes:
    """Give the end of an archive."""
    return _header(_TRAILER.encode() + b"\0", (0, 0, 0, 0, 1, 0, 0), _TRAILER)


def padding(size: int) -> bytes:
    """Give what follows ``size`` bytes of data."""
    return bytes(-size % 4)


def directories(names: Iterable[str]) -> list[str]:
    """Give the directories above ``names``, each once and after its own parent: the kernel makes none by itself."""
    found: dict[str, None] = {}
    for name in names:
        parts = name.split("/")[:-1]
        found.update(dict.fromkeys("/".join(parts[:end]) for end in range(1, len(parts) + 1)))
    return [name for name in found if name]


def read_headers(feed: PeekableStream) -> Iterator[CpioFile]:
    """Give the members of the archives at the front of a stream, one archive after the other.

    Ends, like the kernel, at the end of the stream and before what begins with neither a header nor zeros. Raises
    ValueError for what is damaged.
    """
    while True:
        feed.skip_zeros()
        # Behind other data an archive is looked for at multiples of four only.
        if feed.peek(1) != b"0" or feed.position % 4:
            return
        member = _read_header(feed)
        if member.name != _TRAILER:
            yield member
        if not feed.skip(member.size):
            raise ValueError(f"the cpio archive ends within {member.name!r}")
        feed.read(-member.size % 4)


def _header(name: bytes, fields: tuple[int, ...], typed: str) -> bytes:
    if max(fields) > _MOST:
        raise LandingError(
            f"{typed!r} has {fields[-1]} bytes, more than a cpio archive can hold in one file (4 GiB)",
            hint="leave the image out of the initramfs: bootc.kexec.reuse-image=0, or no --rootfs",
        )
    numbers = (*fields, 0, 0, 0, 0, len(name), 0)
    whole = _MAGIC + b"".join(b"%08X" % number for number in numbers) + name
    return whole + padding(len(whole))


def _read_header(feed: PeekableStream) -> CpioFile:
    head = _HEAD.fullmatch(feed.read(_HEADER))
    if head is None:
        raise ValueError("a header of the cpio archive is damaged")
    numbers = [int(head[1][at : at + 8], 16) for at in range(0, len(head[1]), 8)]
    mode, size, length = numbers[1], numbers[6], numbers[11]
    if not 0 < length <= _LONGEST_NAME:
        raise ValueError("a name in the cpio archive is damaged")
    name = feed.read(length + -(_HEADER + length) % 4)
    if len(name) < length:
        raise ValueError("the cpio archive ends within a name")
    return CpioFile(os.fsdecode(name[:length].partition(b"\0")[0]), mode, size, feed.position)
