"""Write the headers of a tar: ustar, and pax where that is not enough (POSIX.1-2024, pax)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bootc_live.formats.tar.header import BLOCK, HEADER, NO_XATTRS

# The two blocks of zeros that end a tar.
END = bytes(2 * BLOCK)
_NAME, _NUMBER, _SIZE = 100, 8**7, 8**11
_EXTENDED = b"././@PaxHeader"
_TYPES = {"file": b"0", "hardlink": b"1", "symlink": b"2", "char": b"3", "block": b"4", "dir": b"5", "fifo": b"6"}


@dataclass(frozen=True)
class NewMember:
    """A file as a tar describes it; ``kind`` and ``link`` are as in ``formats.tar.reader``, ``mtime`` nanoseconds."""

    name: bytes
    kind: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[bytes, bytes] = field(default_factory=lambda: NO_XATTRS)


def header(member: NewMember) -> bytes:
    """Return the blocks before the data of a member; raise ValueError for what cannot be written.

    The data are followed by ``padding``.
    """
    if any(b"=" in name for name in member.xattrs):
        raise ValueError("has an extended attribute with '=' in its name")
    seconds, nano = divmod(member.mtime, 1_000_000_000)
    records = [(b"SCHILY.xattr." + name, value) for name, value in sorted(member.xattrs.items())]
    records += [(name, value) for name, value in ((b"path", member.name), (b"linkpath", member.link)) if _long(value)]
    numbers = ((b"size", member.size, _SIZE), (b"uid", member.uid, _NUMBER), (b"gid", member.gid, _NUMBER))
    records += [(name, b"%d" % value) for name, value, most in numbers if value >= most]
    if nano or not 0 <= seconds < _SIZE:
        records.append((b"mtime", _time(member.mtime)))
    body = b"".join(_record(name, value) for name, value in records)
    return (_extended(body) if body else b"") + _block(member, seconds, _TYPES[member.kind])


def padding(size: int) -> bytes:
    """Return the zeros that follow ``size`` bytes of data."""
    return bytes(-size % BLOCK)


def _long(name: bytes) -> bool:
    return len(name) > _NAME


def _time(mtime: int) -> bytes:
    seconds, nano = divmod(abs(mtime), 1_000_000_000)
    return b"%s%d.%09d" % (b"-" if mtime < 0 else b"", seconds, nano)


def _record(name: bytes, value: bytes) -> bytes:
    """Return a record, whose length counts its own digits."""
    rest = len(name) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, name, value)


def _extended(body: bytes) -> bytes:
    return _block(NewMember(_EXTENDED, "file", size=len(body)), 0, b"x") + body + padding(len(body))


def _block(member: NewMember, seconds: int, kind: bytes) -> bytes:
    fields = (
        member.name[:_NAME],
        _octal(member.mode, 8),
        _octal(member.uid, 8),
        _octal(member.gid, 8),
        _octal(member.size, 12),
        _octal(max(seconds, 0), 12),
        b" " * 8,
        kind,
        member.link[:_NAME],
        b"ustar\0" + b"00",
        b"",
        b"",
        _octal(member.device[0], 8),
        _octal(member.device[1], 8),
        b"",
    )
    packed = HEADER.pack(*fields)
    return packed[:148] + b"%06o\0 " % sum(packed) + packed[156:]


def _octal(value: int, width: int) -> bytes:
    """Return a field; a number that is too large for it stands in a pax record."""
    return b"%0*o\0" % (width - 1, value if value < 8 ** (width - 1) else 0)
