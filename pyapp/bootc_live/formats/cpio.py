"""The cpio format "newc" of initramfs archives.

See Documentation/driver-api/early-userspace/buffer-format.rst of the kernel: a header of hexadecimal numbers, the name,
and the data, each padded to four bytes.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bootc_live.base.peekable import PeekableStream

_MAGIC = b"070701"
# "2" is the same with checksums, which kernels ignore.
_HEAD = re.compile(rb"07070[12]([0-9A-Fa-f]{104})")
_HEADER = 110
_TRAILER = "TRAILER!!!"
_MAX = 0xFFFFFFFF
_LONGEST_NAME = 4096


class CpioFile(NamedTuple):
    """A member with ``size`` bytes of data at ``offset`` from the begin of reading."""

    name: str
    mode: int
    size: int
    offset: int


def header(name: str, mode: int, size: int, ino: int, mtime: int = 0) -> bytes:
    """Return the header of a member that belongs to root; its data follows.

    ``mode`` includes the file type; each member has its own ``ino``. Raises ValueError for data that is too large.
    """
    return _header(os.fsencode(name) + b"\0", (ino, mode, 0, 0, 2 if stat.S_ISDIR(mode) else 1, mtime, size), name)


def trailer() -> bytes:
    """Return the end of an archive."""
    return _header(_TRAILER.encode() + b"\0", (0, 0, 0, 0, 1, 0, 0), _TRAILER)


def padding(size: int) -> bytes:
    """Return the padding after ``size`` bytes of data."""
    return bytes(-size % 4)


def directories(names: Iterable[str]) -> list[str]:
    """Return the parent directories of ``names``, top-down, each once: the kernel does not make them by itself."""
    found: dict[str, None] = {}
    for name in names:
        parts = name.split("/")[:-1]
        found.update(dict.fromkeys("/".join(parts[:end]) for end in range(1, len(parts) + 1)))
    return [name for name in found if name]


def read_headers(feed: PeekableStream) -> Iterator[CpioFile]:
    """Yield the members of all archives at the beginning of a stream.

    Stops, like the kernel, before data that begins with neither a header nor zeros. Raises ValueError for damage.
    """
    while True:
        feed.skip_zeros()
        # Archives begin at multiples of four.
        if feed.peek(1) != b"0" or feed.position % 4:
            return
        member = _read_header(feed)
        if member.name != _TRAILER:
            yield member
        if not feed.skip(member.size):
            raise ValueError(f"the cpio archive ends within {member.name!r}")
        feed.read(-member.size % 4)


def _header(name: bytes, fields: tuple[int, ...], text: str) -> bytes:
    if max(fields) > _MAX:
        raise ValueError(f"{text!r} has {fields[-1]} bytes, the limit of a file in a cpio archive is 4 GiB")
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
