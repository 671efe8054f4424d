"""Sparse members: GNU tar's old format and pax formats 0.0, 0.1 and 1.0 (GNU tar manual, Sparse Formats)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from bootc_live.base.numbers import LARGEST_SIZE, decimal
from bootc_live.formats.tar.header import BLOCK, number

_OLD_MAP, _OLD_EXTENDED, _OLD_REAL_SIZE = 386, 482, 483


class _Bytes(Protocol):
    def __getitem__(self, key: slice, /) -> bytes: ...


class Extent(NamedTuple):
    """``length`` bytes of data for offset ``start`` of the file, at offset ``data`` of the tar."""

    start: int
    length: int
    data: int


class SparseFile(NamedTuple):
    """A sparse member; ``data`` is the offset of its data, ``entries`` the length of its map."""

    extents: tuple[Extent, ...]
    size: int
    data: int
    entries: int


def gnu_old_sparse(buffer: _Bytes, position: int, limit: int) -> SparseFile:
    """Read the map of a type ``S`` header that ends at ``position``, up to ``limit`` entries. Raises ValueError."""
    header = buffer[position - BLOCK : position]
    pairs = _pairs(header[_OLD_MAP : _OLD_MAP + 4 * 24])
    _bounded(len(pairs), limit)
    more = header[_OLD_EXTENDED]
    while more:
        block = buffer[position : position + BLOCK]
        if len(block) < BLOCK:
            raise ValueError("the map of a sparse member is damaged")
        pairs += _pairs(block[: 21 * 24])
        _bounded(len(pairs), limit)
        more = block[504]
        position += BLOCK
    size = number(header[_OLD_REAL_SIZE : _OLD_REAL_SIZE + 12])
    return SparseFile(_extents(pairs, size, position), size, position, len(pairs))


def pax_sparse(buffer: _Bytes, position: int, size: int, pax: dict[bytes, bytes], limit: int) -> SparseFile:
    """Read the map of a pax sparse member with a body of ``size`` bytes at ``position``, up to ``limit`` entries.

    Raises ValueError.
    """
    real = pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size")
    real_size = _number(real) if real else size
    if pax.get(b"GNU.sparse.major") == b"1":
        numbers, data = _map_in_body(buffer, position, position + size, limit)
    else:
        # The reader has joined the repeated keywords of format 0.0 into the map of 0.1.
        parts = [part for part in pax.get(b"GNU.sparse.map", b"").split(b",") if part]
        _bounded(len(parts) // 2, limit)
        numbers, data = [_number(part) for part in parts], position
    if len(numbers) % 2:
        raise ValueError("the map of a sparse member is damaged")
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return SparseFile(_extents(pairs, real_size, data), real_size, data, len(numbers) // 2)


def _map_in_body(buffer: _Bytes, position: int, end: int, limit: int) -> tuple[list[int], int]:
    start, numbers, wanted, rest = position, list[int](), 1, b""
    # A member may claim a size beyond the end of the tar.
    while position < end and len(rest) < BLOCK and (block := buffer[position : position + BLOCK]):
        *lines, rest = (rest + block).split(b"\n")
        position += BLOCK
        for line in lines:
            numbers.append(_number(line))
            if len(numbers) == 1:
                _bounded(numbers[0], limit)
                wanted += 2 * numbers[0]
            if len(numbers) == wanted:
                return numbers[1:], position
    raise ValueError(f"the map of a sparse member at offset {start} has no end")


def _number(digits: bytes) -> int:
    try:
        return decimal(digits, limit=LARGEST_SIZE)
    except ValueError as error:
        raise ValueError(f"the map of a sparse member contains {error}: {digits[:40]!r}") from error


def _bounded(entries: int, limit: int) -> None:
    if entries > limit:
        raise ValueError("the maps of sparse members have too many entries")


def _pairs(area: bytes) -> list[tuple[int, int]]:
    pairs = []
    for at in range(0, len(area), 24):
        entry = area[at : at + 24]
        if not entry.strip(b"\0"):
            break
        pairs.append((number(entry[:12]), number(entry[12:])))
    return pairs


def _extents(pairs: Iterable[tuple[int, int]], size: int, data: int) -> tuple[Extent, ...]:
    if not 0 <= size <= LARGEST_SIZE:
        raise ValueError(f"a sparse member has the size {size}")
    extents, last = [], 0
    for start, length in pairs:
        if length < 0 or start < last or start + length > size:
            raise ValueError("the map of a sparse member does not fit its size")
        if length:
            extents.append(Extent(start, length, data))
        last, data = start + length, data + length
    return tuple(extents)
