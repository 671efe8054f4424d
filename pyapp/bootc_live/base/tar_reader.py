"""Read the members of a layer's tar file in place, without touching any file system."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from bootc_live.base.sparse import Extent, gnu_old_sparse, pax_sparse
from bootc_live.base.tar_format import (
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

_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."
_HEADER_LIMIT = 1024 * 1024
_REGULAR = frozenset(b"0\x007")
_BEFORE_USTAR = b"\0"
# Types without a body, whatever their size field says.
_BODILESS = frozenset(b"123456")


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
        self.reset()

    def reset(self) -> None:
        """Forget what was said about a member that has been read."""
        self._own: dict[bytes, bytes] = {}
        self.name: bytes | None = None
        self.link: bytes | None = None
        self.waiting = False

    def add(self, kind: bytes, body: bytes) -> None:
        """Take one extension header in; raises ValueError."""
        self.waiting = self.waiting or kind != b"g"
        if kind == b"x":
            _update(self._own, pax_records(body))
        elif kind == b"g":
            _update(self._globals, pax_records(body))
        elif kind == b"L":
            self.name = text(body)
        else:
            self.link = text(body)

    @property
    def pax(self) -> dict[bytes, bytes]:
        """What pax says about the next member; an empty value takes back what was said elsewhere (POSIX pax)."""
        return {keyword: value for keyword, value in {**self._globals, **self._own}.items() if value}


_KINDS = {b"1": "hardlink", b"2": "symlink", b"3": "char", b"4": "block", b"5": "dir", b"6": "fifo"}


def read_members(buffer: Buffer) -> Iterator[Member]:
    """Give the members of a tar, in order.

    Raises ValueError saying what is wrong and where.
    """
    position = reach = 0
    extensions = _Extensions()
    while len(header := buffer[position : position + BLOCK]) == BLOCK:
        if header == ZERO_BLOCK:
            if buffer[position + BLOCK : position + 2 * BLOCK].strip(b"\0"):
                raise ValueError(f"the tar has a lone zero block at offset {position}, and more behind it")
            break
        fields = HEADER.unpack(header)
        if not checksum_matches(header, fields[6]):
            raise ValueError(f"offset {position} holds no tar header (its checksum is wrong)")
        position += BLOCK
        if fields[7] in b"xgLK":
            size = number(fields[4])
            extensions.add(fields[7], _extension(buffer, position, size))
            position += _padded(size)
            continue
        member, reach = _member(buffer, position, fields, extensions)
        position = _padded(reach)
        extensions.reset()
        yield member
    else:
        # The size of a tar that is still being written is known only now.
        if reach > len(buffer):
            raise ValueError(f"its last member claims data up to offset {reach}, more than there is")
        if header.strip(b"\0"):
            raise ValueError("the tar ends inside a header")
    if extensions.waiting:
        raise ValueError("the tar ends after an extension header")


def _member(buffer: Buffer, position: int, fields: tuple[bytes, ...], extensions: _Extensions) -> tuple[Member, int]:
    pax = extensions.pax
    kind = fields[7]
    name = pax.get(b"path") or extensions.name or _name(fields)
    size = int(pax[b"size"]) if pax.get(b"size") else number(fields[4])
    if ord(kind) in _BODILESS:
        size = 0
    extents: tuple[Extent, ...] | None = None
    start, real_size, data = position, size, position
    if kind == b"S":
        extents, real_size, data = gnu_old_sparse(buffer, position)
        start = data
    elif any(key.startswith(_SPARSE) for key in pax):
        extents, real_size, data, name = pax_sparse(buffer, position, size, pax, name)
    if size < 0 or start + size > len(buffer) or (extents and extents[-1].data + extents[-1].length > start + size):
        raise ValueError(f"member {_show(name)} claims {size} bytes of data, more than there are")
    mtime, mtime_ns = timestamp(pax[b"mtime"]) if pax.get(b"mtime") else (number(fields[5]), 0)
    member = Member(
        name=name,
        kind=_kind(kind, name),
        mode=number(fields[1]) & 0o7777,
        uid=int(pax[b"uid"]) if pax.get(b"uid") else number(fields[2]),
        gid=int(pax[b"gid"]) if pax.get(b"gid") else number(fields[3]),
        mtime=mtime,
        mtime_ns=mtime_ns,
        link=pax.get(b"linkpath") or extensions.link or text(fields[8]),
        device=(number(fields[12]), number(fields[13])) if kind in b"34" else (0, 0),
        offset=data,
        size=real_size,
        xattrs=_xattrs(pax) if pax else NO_XATTRS,
        extents=extents,
    )
    return member, start + size


def _xattrs(pax: dict[bytes, bytes]) -> Mapping[bytes, bytes]:
    # POSIX: an empty value takes back what was said before.
    found = {key[len(_XATTR) :]: value for key, value in pax.items() if value and key.startswith(_XATTR)}
    return found or NO_XATTRS


def _update(pax: dict[bytes, bytes], records: list[tuple[bytes, bytes]]) -> None:
    for keyword, value in records:
        if keyword in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            # Sparse format 0.0 repeats these; joined they are the map of 0.1.
            before = pax.get(b"GNU.sparse.map")
            pax[b"GNU.sparse.map"] = value if before is None else before + b"," + value
        else:
            pax[keyword] = value


def _kind(kind: bytes, name: bytes) -> str:
    if kind == _BEFORE_USTAR and name.endswith(b"/"):
        # That is how directories were told from files then.
        return "dir"
    if ord(kind) in _REGULAR:
        return "file"
    if kind == b"S":
        return "file"
    found = _KINDS.get(kind)
    if found is None:
        raise ValueError(f"member {_show(name)} has the unknown type {kind!r}")
    return found


def _name(fields: tuple[bytes, ...]) -> bytes:
    name = text(fields[0])
    # GNU headers ("ustar  ") keep other things where ustar has the prefix.
    if fields[9] == b"ustar\x0000" and (prefix := text(fields[14])):
        return prefix + b"/" + name
    return name


def _extension(buffer: Buffer, position: int, size: int) -> bytes:
    body = buffer[position : position + size] if 0 <= size <= _HEADER_LIMIT else b""
    if len(body) != size:
        raise ValueError(f"the extension header at offset {position} claims {size} bytes")
    return body


def _padded(size: int) -> int:
    return (size + BLOCK - 1) // BLOCK * BLOCK


def _show(name: bytes) -> str:
    return repr(name.decode(errors="backslashreplace"))
