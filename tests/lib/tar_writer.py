"""Tar members byte by byte, for archives that Python's tarfile refuses to write.

Every function gives the whole member as bytes: extension headers, header, data and padding. A layer is the members
joined, then `end()`. Formats follow POSIX.1-2017 pax(1) "pax Interchange Format" and the GNU tar manual, "Basic Tar
Format" and "Storing Sparse Files".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

BLOCK: Final = 512
DEFAULT_MTIME: Final = 1_600_000_000

Name = str | bytes
Format = Literal["ustar", "pax", "gnu"]
Pax = Iterable[tuple[str, Name]]
Extent = tuple[int, bytes]


def raw(text: Name) -> bytes:
    """`text` as the bytes that stand in an archive (UTF-8; undecodable bytes pass through)."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def padded(data: bytes) -> bytes:
    """`data` filled with zeros to a whole number of 512-byte blocks."""
    return data + bytes(-len(data) % BLOCK)


def end() -> bytes:
    """The two zero blocks that end an archive."""
    return bytes(2 * BLOCK)


def octal(value: int, width: int) -> bytes:
    """`value` as zero-filled octal with a closing NUL, in a field of `width` bytes."""
    text = b"%0*o" % (width - 1, value)
    assert len(text) < width, f"{value} needs more than {width} bytes of octal"
    return text + b"\0"


def base256(value: int, width: int) -> bytes:
    """`value`, of either sign, in GNU's binary number form of `width` bytes."""
    marker = 0xFF if value < 0 else 0x80
    return bytes([marker]) + value.to_bytes(width - 1, "big", signed=value < 0)


def pax_records(records: Pax) -> bytes:
    """The body of a pax extended header: `length key=value` lines, in the order given, repeats allowed."""
    out = b""
    for key, value in records:
        tail = b" " + key.encode() + b"=" + raw(value) + b"\n"
        length = len(tail) + 1
        while length != len(tail) + len(str(length)):
            length = len(tail) + len(str(length))
        out += str(length).encode() + tail
    return out


@dataclass(frozen=True)
class Header:
    """The fields of one 512-byte header block. Numbers that octal cannot hold become base-256."""

    name: bytes
    typeflag: bytes = b"0"
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = DEFAULT_MTIME
    linkname: bytes = b""
    major: int = 0
    minor: int = 0
    prefix: bytes = b""
    magic: bytes = b"ustar\x0000"
    tail: bytes = b""
    checksum_error: int = 0

    def encode(self) -> bytes:
        """The block, with its checksum (plus `checksum_error`, for a header that must be refused)."""
        for field, width in ((self.name, 100), (self.linkname, 100), (self.prefix, 155)):
            assert len(field) <= width, f"{field!r} does not fit {width} bytes"
        head = self.name.ljust(100, b"\0") + number(self.mode, 8) + number(self.uid, 8) + number(self.gid, 8)
        head += number(self.size, 12) + number(self.mtime, 12)
        rest = self.typeflag + self.linkname.ljust(100, b"\0") + self.magic + bytes(64)
        rest += number(self.major, 8) + number(self.minor, 8)
        # GNU sparse headers use the place of the ustar prefix for other things.
        rest += self.tail or self.prefix.ljust(155, b"\0")
        rest = rest.ljust(BLOCK - len(head) - 8, b"\0")
        total = sum(head) + sum(rest) + 8 * ord(" ") + self.checksum_error
        return head + b"%06o\0 " % total + rest


def number(value: int, width: int) -> bytes:
    """`value` in octal where it fits, else in base-256."""
    if 0 <= value < 8 ** (width - 1):
        return octal(value, width)
    return base256(value, width)


def _gnu_long(kind: bytes, text: bytes) -> bytes:
    header = Header(b"././@LongLink", kind, mode=0, size=len(text) + 1, mtime=0, magic=b"ustar  \0")
    return header.encode() + padded(text + b"\0")


def pax_header(records: Pax, kind: Literal["x", "X", "g"] = "x") -> bytes:
    """An extended header member: `x` is for the next member alone, as Solaris' `X` is, and `g` for all that follow."""
    body = pax_records(records)
    return Header(b"PaxHeaders/0", kind.encode(), size=len(body)).encode() + padded(body)


def _split_prefix(name: bytes) -> tuple[bytes, bytes]:
    cut = name.rfind(b"/", 0, 156)
    return name[:cut], name[cut + 1 :]


def member(header: Header, data: bytes = b"", *, pax: Pax = (), fmt: Format = "pax") -> bytes:
    """One member from `header` and `data`; `fmt` says how a name over 100 bytes is carried.

    `header.size` is written as it stands, so that a size can lie; the data is padded to whole blocks.
    """
    before = b""
    records = list(pax)
    if fmt == "gnu":
        header = replace(header, magic=b"ustar  \0")
    if len(header.linkname) > 100:
        if fmt == "gnu":
            before += _gnu_long(b"K", header.linkname)
        else:
            records.append(("linkpath", header.linkname))
        header = replace(header, linkname=header.linkname[:100])
    if len(header.name) > 100:
        if fmt == "gnu":
            before += _gnu_long(b"L", header.name)
            header = replace(header, name=header.name[:100])
        elif fmt == "ustar":
            prefix, name = _split_prefix(header.name)
            header = replace(header, prefix=prefix, name=name)
        else:
            records.append(("path", header.name))
            header = replace(header, name=header.name[:100])
    if records:
        before += pax_header(records)
    return before + header.encode() + padded(data)


def file(
    name: Name,
    data: Name = b"",
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = DEFAULT_MTIME,
    size: int | None = None,
    pax: Pax = (),
    fmt: Format = "pax",
    typeflag: bytes = b"0",
) -> bytes:
    """A regular file. `size` overrides the length written in the header; the data itself stays."""
    body = raw(data)
    said = len(body) if size is None else size
    return member(Header(raw(name), typeflag, mode, uid, gid, said, mtime), body, pax=pax, fmt=fmt)


def directory(
    name: Name,
    *,
    mode: int = 0o755,
    uid: int = 0,
    gid: int = 0,
    mtime: int = DEFAULT_MTIME,
    pax: Pax = (),
    fmt: Format = "pax",
) -> bytes:
    """A directory. The name is written as given: the closing slash is the caller's choice."""
    return member(Header(raw(name), b"5", mode, uid, gid, 0, mtime), pax=pax, fmt=fmt)


def symlink(
    name: Name,
    target: Name,
    *,
    uid: int = 0,
    gid: int = 0,
    mtime: int = DEFAULT_MTIME,
    pax: Pax = (),
    fmt: Format = "pax",
) -> bytes:
    """A symbolic link to `target`."""
    header = Header(raw(name), b"2", 0o777, uid, gid, 0, mtime, raw(target))
    return member(header, pax=pax, fmt=fmt)


def hardlink(
    name: Name,
    target: Name,
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = DEFAULT_MTIME,
    size: int = 0,
    pax: Pax = (),
    fmt: Format = "pax",
) -> bytes:
    """A hard link to the member `target`, a path from the root of the archive."""
    header = Header(raw(name), b"1", mode, uid, gid, size, mtime, raw(target))
    return member(header, pax=pax, fmt=fmt)


def node(
    name: Name,
    kind: Literal["char", "block", "fifo"],
    major: int = 0,
    minor: int = 0,
    *,
    mode: int = 0o600,
    uid: int = 0,
    gid: int = 0,
    mtime: int = DEFAULT_MTIME,
    pax: Pax = (),
    fmt: Format = "pax",
) -> bytes:
    """A device node or fifo."""
    flag = {"char": b"3", "block": b"4", "fifo": b"6"}[kind]
    header = Header(raw(name), flag, mode, uid, gid, 0, mtime, major=major, minor=minor)
    return member(header, pax=pax, fmt=fmt)


def _gnu_extents(pairs: Sequence[tuple[int, int]], slots: int) -> bytes:
    return b"".join(octal(n, 12) for pair in pairs for n in pair).ljust(slots * 24, b"\0")


def sparse_gnu(name: Name, size: int, extents: Sequence[Extent], *, mode: int = 0o644) -> bytes:
    """A sparse file in GNU's old form, type `S`; `extents` are (offset, data) pairs, `size` the apparent size."""
    pairs = [(offset, len(data)) for offset, data in extents]
    stored = b"".join(data for _, data in extents)
    more, rest = len(pairs) > 4, pairs[4:]
    # atime, ctime, offset, longnames and a pad come first: 345 to 386.
    tail = bytes(41) + _gnu_extents(pairs[:4], 4) + bytes([more]) + octal(size, 12)
    out = Header(raw(name), b"S", mode, size=len(stored), magic=b"ustar  \0", tail=tail).encode()
    while more:
        block, rest = rest[:21], rest[21:]
        more = bool(rest)
        out += (_gnu_extents(block, 21) + bytes([more])).ljust(BLOCK, b"\0")
    return out + padded(stored)


def sparse_pax(
    name: Name,
    size: int,
    extents: Sequence[Extent],
    *,
    version: Literal["0.0", "0.1", "1.0"] = "1.0",
    mode: int = 0o644,
) -> bytes:
    """A sparse file in one of the three pax forms."""
    stored = b"".join(data for _, data in extents)
    flat = [str(n) for offset, data in extents for n in (offset, len(data))]
    header = Header(b"GNUSparseFile.0/" + raw(name).replace(b"/", b"_")[:80], mode=mode)
    if version == "1.0":
        body = padded("".join(f"{n}\n" for n in [str(len(extents)), *flat]).encode()) + stored
        records: list[tuple[str, Name]] = [
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", raw(name)),
        ]
        records.append(("GNU.sparse.realsize", str(size)))
        return member(replace(header, size=len(body)), body, pax=records)
    records = [("GNU.sparse.size", str(size)), ("GNU.sparse.numblocks", str(len(extents)))]
    if version == "0.1":
        records += [("GNU.sparse.name", raw(name)), ("GNU.sparse.map", ",".join(flat))]
    else:
        header = replace(header, name=raw(name))
        for offset, data in extents:
            records += [("GNU.sparse.offset", str(offset)), ("GNU.sparse.numbytes", str(len(data)))]
    return member(replace(header, size=len(stored)), stored, pax=records)


def layer(*members: bytes) -> bytes:
    """A whole layer: the members and the end of the archive."""
    return b"".join(members) + end()


def xattr(name: str, value: Name) -> tuple[str, Name]:
    """The pax record that carries one extended attribute."""
    return (f"SCHILY.xattr.{name}", value)
