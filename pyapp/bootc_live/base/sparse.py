"""Sparse members: GNU tar's old format and pax formats 0.0, 0.1 and 1.0 (GNU tar manual, Sparse Formats)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from bootc_live.base.tar_format import BLOCK, number

_OLD_MAP, _OLD_EXTENDED, _OLD_REAL_SIZE = 386, 482, 483
_MAP_LIMIT = 1_000_000


class _Bytes(Protocol):
    def __getitem__(self, key: slice, /) -> bytes: ...


class Extent(NamedTuple):
    """``length`` bytes of data that belong at ``start`` of the file and lie at ``data`` of the tar."""

    start: int
    length: int
    data: int


def gnu_old_sparse(buffer: _Bytes, position: int) -> tuple[tuple[Extent, ...], int, int]:
    """Read the map of a type ``S`` header that ends at ``position``.

    Gives the extents, the file's size, and where its data begins. Raises ValueError.
    """
    header = buffer[position - BLOCK : position]
    pairs = _pairs(header[_OLD_MAP : _OLD_MAP + 4 * 24])
    more = header[_OLD_EXTENDED]
    while more:
        block = buffer[position : position + BLOCK]
        if len(block) < BLOCK or len(pairs) > _MAP_LIMIT:
            raise ValueError("the map of a sparse member is damaged")
        pairs += _pairs(block[: 21 * 24])
        more = block[504]
        position += BLOCK
    size = number(header[_OLD_REAL_SIZE : _OLD_REAL_SIZE + 12])
    return _extents(pairs, size, position), size, position


def pax_sparse(
    buffer: _Bytes, position: int, size: int, pax: dict[bytes, bytes], name: bytes
) -> tuple[tuple[Extent, ...], int, int, bytes]:
    """Read the map of a pax sparse member whose body of ``size`` bytes begins at ``position``.

    Gives the extents, the file's size, where its data begins, and its real
    name. Raises ValueError.
    """
    real_name = pax.get(b"GNU.sparse.name", name)
    real_size = int(pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size") or size)
    if pax.get(b"GNU.sparse.major") == b"1":
        numbers, data = _map_in_body(buffer, position, position + size)
    else:
        # Format 0.0 repeats keywords, which the reader joins into the map of 0.1.
        numbers, data = [int(part) for part in pax.get(b"GNU.sparse.map", b"").split(b",") if part], position
    if len(numbers) % 2:
        raise ValueError("the map of a sparse member is damaged")
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    return _extents(pairs, real_size, data), real_size, data, real_name


def _map_in_body(buffer: _Bytes, position: int, end: int) -> tuple[list[int], int]:
    start, numbers, rest = position, list[int](), b""
    while position < end and len(numbers) <= 2 * _MAP_LIMIT and len(rest) < BLOCK:
        *lines, rest = (rest + buffer[position : position + BLOCK]).split(b"\n")
        numbers += [int(line) for line in lines]
        position += BLOCK
        if numbers and len(numbers) > 2 * numbers[0] >= 0:
            return numbers[1 : 2 * numbers[0] + 1], position
    raise ValueError(f"the map of a sparse member at offset {start} has no end")


def _pairs(area: bytes) -> list[tuple[int, int]]:
    pairs = []
    for at in range(0, len(area), 24):
        entry = area[at : at + 24]
        if not entry.strip(b"\0"):
            break
        pairs.append((number(entry[:12]), number(entry[12:])))
    return pairs


def _extents(pairs: list[tuple[int, int]], size: int, data: int) -> tuple[Extent, ...]:
    if size < 0:
        raise ValueError(f"a sparse member has the size {size}")
    extents, last = [], 0
    for start, length in pairs:
        if length < 0 or start < last or start + length > size:
            raise ValueError("the map of a sparse member does not fit its size")
        if length:
            extents.append(Extent(start, length, data))
        last, data = start + length, data + length
    return tuple(extents)
