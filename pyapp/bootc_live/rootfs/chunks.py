"""Sparse files as EROFS chunk maps: which block of the data file holds which part, and where holes are."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from bootc_live.base.sparse import Extent
from bootc_live.rootfs.erofs_format import BLOCK, BLOCK_BITS, HOLE
from bootc_live.rootfs.tree import Node

# Chunk sizes reach from one block to 2^31 blocks; maps stay small enough to be no attack.
_MAX_BITS = 31
_MAX_ENTRIES = 4 * 2**20
_PAGE = 4096


@dataclass(eq=False, slots=True)
class ChunkMap:
    """The map of one file: ``chunk_bits`` above the block size, and a block or HOLE for each chunk."""

    chunk_bits: int
    reserved: int
    block_bits: int = BLOCK_BITS
    table: list[int] = field(default_factory=list)

    @classmethod
    def reserve(cls, node: Node, block_bits: int = BLOCK_BITS) -> ChunkMap:
        """Give an empty map with the right number of entries; ValueError where it would be absurd."""
        bits = _chunk_bits(_windows(node.extents or (), node.size), node.size, block_bits)
        count = -(-node.size // (1 << block_bits << bits))
        if count > _MAX_ENTRIES:
            raise ValueError(f"is a sparse file whose map would have {count} entries")
        return cls(bits, count, block_bits)

    def fill(self, extents: Sequence[Extent], size: int) -> None:
        """Enter extents that begin and end at chunks, with data at blocks."""
        step = 1 << self.block_bits << self.chunk_bits
        self.table = [HOLE] * self.reserved
        for extent in extents:
            for position in range(extent.start, min(_end(extent), size), step):
                self.table[position // step] = (extent.data + position - extent.start) >> self.block_bits

    @property
    def chunk_format(self) -> int:
        """The inode's chunk format: 4-byte block addresses, and the chunk size."""
        return self.chunk_bits

    def packed(self) -> bytes:
        """Give the map as it follows the inode."""
        return struct.pack(f"<{len(self.table)}I", *self.table)


def chunk_map(node: Node, fd: int, extra: int) -> tuple[ChunkMap, int]:
    """Fill the map of a sparse file.

    Extents that do not begin and end at blocks are copied, padded, to the
    offset ``extra`` of the data file. Gives the map and the next free offset.
    """
    result = ChunkMap.reserve(node)
    extents = node.extents or ()
    if _misaligned(extents, node.size):
        extents, extra = _copied(extents, node.size, fd, extra)
    result.fill(extents, node.size)
    return result, extra


def _misaligned(extents: tuple[Extent, ...], size: int) -> bool:
    return any(
        part.start % BLOCK or part.data % BLOCK or (_end(part) % BLOCK and _end(part) != size) for part in extents
    )


def _windows(extents: tuple[Extent, ...], size: int) -> list[tuple[int, int]]:
    """Give (start, end) of the extents, widened to whole pages where any does not fit blocks."""
    if not _misaligned(extents, size):
        return [(part.start, _end(part)) for part in extents]
    return page_windows(extents)


def page_windows(extents: Sequence[Extent]) -> list[tuple[int, int]]:
    """Give (start, end) of the extents, widened to whole pages and joined where they meet."""
    windows: list[tuple[int, int]] = []
    for part in extents:
        start, end = part.start // _PAGE * _PAGE, -(-_end(part) // _PAGE) * _PAGE
        if windows and start <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(end, windows[-1][1]))
        else:
            windows.append((start, end))
    return windows


def _chunk_bits(windows: list[tuple[int, int]], size: int, block_bits: int) -> int:
    common = 0
    for start, end in windows:
        # The last chunk may end with the file.
        common = math.gcd(common, start, 0 if end >= size else end)
    if common == 0:
        return min(_MAX_BITS, max(0, (max(size, 1) - 1).bit_length() - block_bits))
    return min(_MAX_BITS, (common & -common).bit_length() - 1 - block_bits)


def _copied(extents: tuple[Extent, ...], size: int, fd: int, extra: int) -> tuple[tuple[Extent, ...], int]:
    result, todo = [], list(reversed(extents))
    for start, end in _windows(extents, size):
        while todo and todo[-1].start < end:
            part = todo.pop()
            _copy(fd, part, extra + part.start - start)
        result.append(Extent(start, end - start, extra))
        extra += end - start
    return tuple(result), extra


def _copy(fd: int, part: Extent, target: int) -> None:
    done = 0
    while done < part.length:
        data = os.pread(fd, min(2**20, part.length - done), part.data + done)
        if not data:
            raise ValueError("has sparse data beyond the end of its layer")
        os.pwrite(fd, data, target + done)
        done += len(data)


def _end(part: Extent) -> int:
    return part.start + part.length
