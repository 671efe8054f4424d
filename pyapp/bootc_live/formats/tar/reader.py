"""Read the headers of the members of a tar in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from bootc_live.base.numbers import LARGEST_SIZE, decimal
from bootc_live.formats.tar.header import (
    BLOCK,
    HEADER,
    NO_XATTRS,
    ZERO_BLOCK,
    checksum_matches,
    known_number,
    number,
    pax_records,
    text,
    timestamp,
)
from bootc_live.formats.tar.sparse import Extent, SparseFile, gnu_old_sparse, pax_sparse

# Limits of one tar, so that it cannot fill memory (SECURITY.md).
MOST_MEMBERS = 2 * 2**20
MOST_MAP_ENTRIES = 2**20
# Names, links and attributes. Half a million files with paths of 100 bytes and two attributes each have 220 MiB.
MOST_TEXT = 512 * 2**20
_EXTENSION_LIMIT = 2**20
# Global headers apply to every member.
_GLOBAL_LIMIT = 16 * 2**10
# XATTR_LIST_MAX of the kernel's include/uapi/linux/limits.h: all names of a file, each with a NUL.
_XATTR_NAMES_LIMIT = 2**16
# Heap bytes of each attribute in addition to its name and value: two objects and a table entry.
_XATTR_OBJECTS = 128

_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."
# Repeated keywords of sparse format 0.0; joined they are the map of 0.1.
_SPARSE_PAIRS = frozenset({b"GNU.sparse.offset", b"GNU.sparse.numbytes"})
_SPARSE_MAP = b"GNU.sparse.map"
_READ = frozenset({b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"})
_USTAR, _GNU = b"ustar\0", b"ustar  \0"
# Types of pax headers for the next member; X is the one of Solaris.
_PAX = frozenset({b"x", b"X"})
_EXTENSIONS = _PAX | {b"g", b"L", b"K"}
_REGULAR = frozenset(b"\x0007")
_BEFORE_USTAR = b"\0"
_KINDS = {b"1": "hardlink", b"2": "symlink", b"3": "char", b"4": "block", b"5": "dir", b"6": "fifo"}


class Buffer(Protocol):
    """The bytes of a tar: an mmap, or a tar that is still being written."""

    def __len__(self) -> int:
        """Return the size in bytes; more than a tar can have while it is unknown."""

    def __getitem__(self, key: slice, /) -> bytes:
        """Wait for a part and return it; shorter at the end of the tar."""


class Member(NamedTuple):
    """A member as described by its headers; its data is at ``offset`` of the tar."""

    name: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    mtime_ns: int
    link: bytes
    device: tuple[int, int]
    offset: int
    size: int
    xattrs: Mapping[bytes, bytes]
    extents: tuple[Extent, ...] | None


class _Extensions:
    """Extension headers: pax and GNU for the next member, pax global ones for all following members."""

    def __init__(self) -> None:
        self._globals: dict[bytes, bytes] = {}
        self._global_size = 0
        # None until it is made from the global headers.
        self._global_xattrs: Mapping[bytes, bytes] | None = NO_XATTRS
        # Heap bytes of all returned attributes.
        self.xattr_bytes = 0
        self.reset()

    def reset(self) -> None:
        """Forget the headers of the last member."""
        self._own: dict[bytes, bytes] = {}
        self.name: bytes | None = None
        self.link: bytes | None = None
        self.empty = not self._globals

    def add(self, kind: bytes, body: bytes) -> None:
        """Add an extension header; the last one of a type counts. Raises ValueError."""
        self.empty = False
        if kind in _PAX:
            self._own = _keywords(body)
        elif kind == b"g":
            for keyword, value in _keywords(body).items():
                before = self._globals.get(keyword)
                self._global_size += len(value) + (len(keyword) if before is None else -len(before))
                self._globals[keyword] = value
            if self._global_size > _GLOBAL_LIMIT:
                raise ValueError(f"global pax headers have more than {_GLOBAL_LIMIT} bytes")
            self._global_xattrs = None
        elif kind == b"L":
            self.name = text(body)
        else:
            self.link = text(body)

    def pax_value(self, keyword: bytes) -> bytes:
        """Return the value of a pax keyword; an empty one cancels other values (POSIX pax)."""
        if self.empty:
            return b""
        own = self._own.get(keyword)
        return self._globals.get(keyword, b"") if own is None else own

    def number(self, keyword: bytes, field: bytes) -> int:
        """Return a number of the pax header, by default of the ``field``; raises ValueError."""
        value = self.pax_value(keyword)
        if not value:
            return known_number(field)
        try:
            return decimal(value, limit=LARGEST_SIZE)
        except ValueError as error:
            raise ValueError(f"the {keyword.decode()} in a pax header is {error}: {value[:40]!r}") from error

    def owner_and_time(self, fields: tuple[bytes, ...]) -> tuple[int, int, int, int]:
        """Return user, group, and seconds and nanoseconds of the time of the next member; raises ValueError."""
        if self.empty:
            return known_number(fields[2]), known_number(fields[3]), known_number(fields[5]), 0
        precise = self.pax_value(b"mtime")
        time = timestamp(precise) if precise else (known_number(fields[5]), 0)
        return self.number(b"uid", fields[2]), self.number(b"gid", fields[3]), *time

    @property
    def sparse(self) -> dict[bytes, bytes]:
        """Keywords of a sparse member; empty for other members."""
        if self.empty:
            return {}
        return {keyword: value for keyword, value in self._own.items() if keyword.startswith(_SPARSE)}

    def xattrs(self) -> Mapping[bytes, bytes]:
        """Return the extended attributes of the next member; raises ValueError."""
        if self.empty:
            return NO_XATTRS
        if any(keyword.startswith(_XATTR) for keyword in self._own):
            found = _xattrs({**self._globals, **self._own})
            self.xattr_bytes += xattrs_size(found)
            return found
        if self._global_xattrs is None:
            # Members share one mapping.
            self._global_xattrs = _xattrs(self._globals)
            self.xattr_bytes += xattrs_size(self._global_xattrs)
        return self._global_xattrs


def xattrs_size(xattrs: Mapping[bytes, bytes]) -> int:
    """Return the approximate heap size of attributes."""
    return sum(len(name) + len(value) + _XATTR_OBJECTS for name, value in xattrs.items())


def read_members(buffer: Buffer) -> Iterator[Member]:
    """Yield the members of a tar in order. Raises ValueError with the fault and its offset."""
    position = reach = members = map_entries = names = 0
    extensions = _Extensions()
    while len(header := buffer[position : position + BLOCK]) == BLOCK:
        if header == ZERO_BLOCK:
            if buffer[position + BLOCK : position + 2 * BLOCK].strip(b"\0"):
                raise ValueError(f"the tar has a lone zero block at offset {position}, and data after it")
            break
        fields = _fields(header, position)
        position += BLOCK
        if fields[7] in _EXTENSIONS:
            body = _extension(buffer, position, number(fields[4]))
            extensions.add(fields[7], body)
            reach = position = position + _padded(len(body))
            continue
        members += 1
        if members > MOST_MEMBERS:
            raise ValueError(f"the tar has more than {MOST_MEMBERS} members")
        member, reach, entries = _member(buffer, position, fields, extensions, MOST_MAP_ENTRIES - map_entries)
        map_entries += entries
        names += len(member.name) + len(member.link)
        if names + extensions.xattr_bytes > MOST_TEXT:
            raise ValueError(f"the tar has more than {MOST_TEXT} bytes of names, links and attributes")
        position = _padded(reach)
        extensions.reset()
        yield member
    else:
        # Only now is the size known of a tar that is still being written.
        if reach > len(buffer):
            raise ValueError(f"its last header claims data up to offset {reach}, beyond its end")
        if header.strip(b"\0"):
            raise ValueError("the tar ends inside a header")


def _fields(header: bytes, position: int) -> tuple[bytes, ...]:
    fields = HEADER.unpack(header)
    if not checksum_matches(header, fields[6]):
        raise ValueError(f"there is no tar header at offset {position} (wrong checksum)")
    return fields


def _member(
    buffer: Buffer, position: int, fields: tuple[bytes, ...], extensions: _Extensions, limit: int
) -> tuple[Member, int, int]:
    """Return a member, the end of its data, and the entries of its sparse map, up to ``limit``."""
    name, flag = _name(fields, extensions), fields[7]
    kind = _kind(fields, name)
    size = 0
    found: SparseFile | None = None
    start = position
    # Only files have data, whatever the size field says.
    if kind == "file":
        size = number(fields[4]) if extensions.empty else extensions.number(b"size", fields[4])
        if flag == b"S":
            found = gnu_old_sparse(buffer, position, limit)
            start = found.data
        elif sparse := extensions.sparse:
            found = pax_sparse(buffer, position, size, sparse, limit)
            name = sparse.get(b"GNU.sparse.name", name)
    extents = None if found is None else found.extents
    end = start + size
    if not 0 <= size <= LARGEST_SIZE or end > len(buffer) or (extents and sum(extents[-1][1:]) > end):
        raise ValueError(f"member {_show(name)} claims {size} bytes of data, beyond the end of the tar")
    member = Member(
        name,
        kind,
        known_number(fields[1]) & 0o7777,
        *extensions.owner_and_time(fields),
        extensions.pax_value(b"linkpath") or extensions.link or text(fields[8]),
        (number(fields[12]), number(fields[13])) if flag in b"34" else (0, 0),
        position if found is None else found.data,
        size if found is None else found.size,
        extensions.xattrs(),
        extents,
    )
    return member, end, 0 if found is None else found.entries


def _keywords(body: bytes) -> dict[bytes, bytes]:
    """Return the used keywords of a pax header."""
    found: dict[bytes, bytes] = {}
    pairs = []
    for keyword, value in pax_records(body):
        if keyword in _SPARSE_PAIRS:
            pairs.append(value)
        elif keyword in _READ or keyword.startswith((_XATTR, _SPARSE)):
            found[keyword] = value
    if pairs:
        found[_SPARSE_MAP] = b",".join(pairs)
    return found


def _xattrs(pax: dict[bytes, bytes]) -> Mapping[bytes, bytes]:
    # POSIX: an empty value cancels an earlier one.
    found = {key[len(_XATTR) :]: value for key, value in pax.items() if value and key.startswith(_XATTR)}
    if sum(map(len, found)) + len(found) > _XATTR_NAMES_LIMIT:
        raise ValueError(f"a member has {len(found)} extended attributes, whose names are more than Linux can list")
    return found or NO_XATTRS


def _kind(fields: tuple[bytes, ...], name: bytes) -> str:
    flag = fields[7]
    if flag == _BEFORE_USTAR and name.endswith(b"/"):
        # In v7 archives the slash marks a directory.
        return "dir"
    if ord(flag) in _REGULAR:
        return "file"
    if flag == b"S":
        if fields[9] != _GNU:
            raise ValueError(f"member {_show(name)} is a GNU sparse file, but its header is not of GNU tar")
        return "file"
    found = _KINDS.get(flag)
    if found is None:
        raise ValueError(f"member {_show(name)} has the unknown type {flag!r}")
    return found


def _name(fields: tuple[bytes, ...], extensions: _Extensions) -> bytes:
    long_name = extensions.pax_value(b"path") or extensions.name
    if long_name:
        return long_name
    name = text(fields[0])
    # Only ustar headers, of any version, have a prefix. GNU headers ("ustar  ") have other fields there.
    if fields[9].startswith(_USTAR) and (prefix := text(fields[14])):
        return prefix + b"/" + name
    return name


def _extension(buffer: Buffer, position: int, size: int) -> bytes:
    body = buffer[position : position + size] if 0 <= size <= _EXTENSION_LIMIT else b""
    if len(body) != size:
        raise ValueError(f"the extension header at offset {position} claims {size} bytes")
    return body


def _padded(size: int) -> int:
    return (size + BLOCK - 1) // BLOCK * BLOCK


def _show(name: bytes) -> str:
    return repr(name[:300].decode(errors="backslashreplace"))
