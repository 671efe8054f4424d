"""Read the members of a layer's tar file in place, without touching any file system."""

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
    number,
    pax_records,
    text,
    timestamp,
)
from bootc_live.formats.tar.sparse import Extent, SparseFile, gnu_old_sparse, pax_sparse

# What one tar may hold. Beyond this it is no image, but something that is to fill memory (SECURITY.md).
MOST_MEMBERS = 2 * 2**20
MOST_MAP_ENTRIES = 2**20
# Of names, links and attributes. Half a million files with paths of 100 bytes and two attributes each have 220 MiB.
MOST_TEXT = 512 * 2**20
_EXTENSION_LIMIT = 2**20
# Of what global headers say: every member has all of it.
_GLOBAL_LIMIT = 16 * 2**10
# XATTR_LIST_MAX of the kernel's include/uapi/linux/limits.h: names of one file, a NUL behind each.
_XATTR_NAMES_LIMIT = 2**16
# Bytes of the heap for each attribute beside its name and value: two objects, and a place in a table.
_XATTR_OBJECTS = 128

_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."
# Of sparse format 0.0, which repeats them; joined they are the map of 0.1.
_SPARSE_PAIRS = frozenset({b"GNU.sparse.offset", b"GNU.sparse.numbytes"})
_SPARSE_MAP = b"GNU.sparse.map"
_READ = frozenset({b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"})
_USTAR, _GNU = b"ustar\0", b"ustar  \0"
# What pax says about the next member; Solaris has a letter of its own for the same.
_PAX = frozenset({b"x", b"X"})
_EXTENSIONS = _PAX | {b"g", b"L", b"K"}
_REGULAR = frozenset(b"\x0007")
_BEFORE_USTAR = b"\0"
_KINDS = {b"1": "hardlink", b"2": "symlink", b"3": "char", b"4": "block", b"5": "dir", b"6": "fifo"}


class Buffer(Protocol):
    """What holds the tar bytes: an mmap, or a tar that is still being written."""

    def __len__(self) -> int:
        """Give its size in bytes, or more than a tar can have as long as that is not known."""

    def __getitem__(self, key: slice, /) -> bytes:
        """Give a part of it, once that is there; shorter where the tar ends."""


class Member(NamedTuple):
    """One member as its headers describe it; ``offset`` and ``size`` locate its data in the tar."""

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
    """What pax and GNU extension headers say about the next member, and pax global ones about all that follow."""

    def __init__(self) -> None:
        self._globals: dict[bytes, bytes] = {}
        self._global_size = 0
        # None where it has to be made of what global headers said.
        self._global_xattrs: Mapping[bytes, bytes] | None = NO_XATTRS
        # Bytes of the heap for all attributes that were given.
        self.held = 0
        self.reset()

    def reset(self) -> None:
        """Forget what was said about a member that has been read."""
        self._own: dict[bytes, bytes] = {}
        self.name: bytes | None = None
        self.link: bytes | None = None

    def add(self, kind: bytes, body: bytes) -> None:
        """Take one extension header in; of several of a kind the last counts. Raises ValueError."""
        if kind in _PAX:
            self._own = _keywords(body)
        elif kind == b"g":
            for keyword, value in _keywords(body).items():
                before = self._globals.get(keyword)
                self._global_size += len(value) + (len(keyword) if before is None else -len(before))
                self._globals[keyword] = value
            if self._global_size > _GLOBAL_LIMIT:
                raise ValueError(f"global pax headers say more than {_GLOBAL_LIMIT} bytes about every member")
            self._global_xattrs = None
        elif kind == b"L":
            self.name = text(body)
        else:
            self.link = text(body)

    def said(self, keyword: bytes) -> bytes:
        """Return what pax says; an empty value takes back what was said elsewhere (POSIX pax)."""
        own = self._own.get(keyword)
        return self._globals.get(keyword, b"") if own is None else own

    def number(self, keyword: bytes, field: bytes) -> int:
        """Return a number, which stands in the header's ``field`` where pax says nothing; raises ValueError."""
        said = self.said(keyword)
        if not said:
            return number(field)
        try:
            return decimal(said, limit=LARGEST_SIZE)
        except ValueError as error:
            raise ValueError(f"the {keyword.decode()} that pax says is {error}: {said[:40]!r}") from error

    @property
    def sparse(self) -> dict[bytes, bytes]:
        """What makes the next member a sparse one; empty where nothing does."""
        return {keyword: value for keyword, value in self._own.items() if keyword.startswith(_SPARSE)}

    def xattrs(self) -> Mapping[bytes, bytes]:
        """Return the extended attributes of the next member; raises ValueError."""
        if any(keyword.startswith(_XATTR) for keyword in self._own):
            found = _xattrs({**self._globals, **self._own})
            self.held += xattrs_size(found)
            return found
        if self._global_xattrs is None:
            # One mapping for all members.
            self._global_xattrs = _xattrs(self._globals)
            self.held += xattrs_size(self._global_xattrs)
        return self._global_xattrs


def xattrs_size(xattrs: Mapping[bytes, bytes]) -> int:
    """Return about how many bytes of the heap attributes take."""
    return sum(len(name) + len(value) + _XATTR_OBJECTS for name, value in xattrs.items())


def read_members(buffer: Buffer) -> Iterator[Member]:
    """Return the members of a tar, in order.

    Raises ValueError saying what is wrong and where.
    """
    position = reach = members = map_entries = names = 0
    extensions = _Extensions()
    while len(header := buffer[position : position + BLOCK]) == BLOCK:
        if header == ZERO_BLOCK:
            if buffer[position + BLOCK : position + 2 * BLOCK].strip(b"\0"):
                raise ValueError(f"the tar has a lone zero block at offset {position}, and more behind it")
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
        if names + extensions.held > MOST_TEXT:
            raise ValueError(f"the tar has more than {MOST_TEXT} bytes of names, links and attributes")
        position = _padded(reach)
        extensions.reset()
        yield member
    else:
        # The size of a tar that is still being written is known only now.
        if reach > len(buffer):
            raise ValueError(f"its last header claims data up to offset {reach}, more than there is")
        if header.strip(b"\0"):
            raise ValueError("the tar ends inside a header")


def _fields(header: bytes, position: int) -> tuple[bytes, ...]:
    fields = HEADER.unpack(header)
    if not checksum_matches(header, fields[6]):
        raise ValueError(f"offset {position} holds no tar header (its checksum is wrong)")
    return fields


def _member(
    buffer: Buffer, position: int, fields: tuple[bytes, ...], extensions: _Extensions, most: int
) -> tuple[Member, int, int]:
    """Return a member, where its data ends, and how many entries its map has; ``most`` is the most it may have."""
    name, flag = _name(fields, extensions), fields[7]
    kind = _kind(fields, name)
    # What is no file has no data, whatever its size field says.
    size = extensions.number(b"size", fields[4]) if kind == "file" else 0
    found: SparseFile | None = None
    start = position
    if flag == b"S":
        found = gnu_old_sparse(buffer, position, most)
        start = found.data
    elif kind == "file" and (sparse := extensions.sparse):
        found = pax_sparse(buffer, position, size, sparse, most)
        name = sparse.get(b"GNU.sparse.name", name)
    extents = None if found is None else found.extents
    end = start + size
    if not 0 <= size <= LARGEST_SIZE or end > len(buffer) or (extents and sum(extents[-1][1:]) > end):
        raise ValueError(f"member {_show(name)} claims {size} bytes of data, more than there are")
    said = extensions.said(b"mtime")
    mtime, mtime_ns = timestamp(said) if said else (number(fields[5]), 0)
    member = Member(
        name=name,
        kind=kind,
        mode=number(fields[1]) & 0o7777,
        uid=extensions.number(b"uid", fields[2]),
        gid=extensions.number(b"gid", fields[3]),
        mtime=mtime,
        mtime_ns=mtime_ns,
        link=extensions.said(b"linkpath") or extensions.link or text(fields[8]),
        device=(number(fields[12]), number(fields[13])) if flag in b"34" else (0, 0),
        offset=position if found is None else found.data,
        size=size if found is None else found.size,
        xattrs=extensions.xattrs(),
        extents=extents,
    )
    return member, end, 0 if found is None else found.entries


def _keywords(body: bytes) -> dict[bytes, bytes]:
    """Return what a pax header says that matters here."""
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
    # POSIX: an empty value takes back what was said before.
    found = {key[len(_XATTR) :]: value for key, value in pax.items() if value and key.startswith(_XATTR)}
    if sum(map(len, found)) + len(found) > _XATTR_NAMES_LIMIT:
        raise ValueError(f"a member has {len(found)} extended attributes, whose names are more than Linux can list")
    return found or NO_XATTRS


def _kind(fields: tuple[bytes, ...], name: bytes) -> str:
    flag = fields[7]
    if flag == _BEFORE_USTAR and name.endswith(b"/"):
        # That is how directories were told from files then.
        return "dir"
    if ord(flag) in _REGULAR:
        return "file"
    if flag == b"S":
        if fields[9] != _GNU:
            raise ValueError(f"member {_show(name)} is a sparse file of GNU's old form, but its header is not GNU's")
        return "file"
    found = _KINDS.get(flag)
    if found is None:
        raise ValueError(f"member {_show(name)} has the unknown type {flag!r}")
    return found


def _name(fields: tuple[bytes, ...], extensions: _Extensions) -> bytes:
    said = extensions.said(b"path") or extensions.name
    if said:
        return said
    name = text(fields[0])
    # The magic alone tells: whatever version follows it, ustar has a prefix. GNU headers ("ustar  ") keep other things
    # in its place.
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
