"""Map sparse files to EROFS chunks: the block of each part in the data file, and the holes."""

from __future__ import annotations

import math
import os
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from bootc_live.formats.erofs.structures import BLOCK, BLOCK_BITS, HOLE
from bootc_live.formats.tar.sparse import Extent
from bootc_live.rootfs.tree.node import Node
from bootc_live.system.files import write_at

# Chunk sizes reach from one block to 2^31 blocks.
_MAX_BITS = 31
# Entries of all maps of one image, 4 bytes each (SECURITY.md).
MOST_ENTRIES = 16 * 2**20
# A map with up to so many entries is small for any file.
_FEW_ENTRIES = 4096
# An entry costs memory; padding of a chunk is a hole in the image file.
_PAD_FOR_AN_ENTRY = 16
_PAGE = 4096


@dataclass(eq=False, slots=True)
class ChunkMap:
    """The map of one file: ``chunk_bits`` above the block size, and a block or HOLE for each chunk."""

    chunk_bits: int
    reserved: int
    block_bits: int = BLOCK_BITS
    table: array[int] = field(default_factory=lambda: array("I"))

    @classmethod
    def reserve(cls, size: int, chunk: int, block_bits: int = BLOCK_BITS) -> ChunkMap:
        """Return an empty map for a file of ``size`` bytes in chunks of that many."""
        return cls(chunk.bit_length() - 1 - block_bits, -(-size // chunk), block_bits)

    def fill(self, extents: Sequence[Extent], size: int) -> None:
        """Enter extents that begin and end at chunks, with data at blocks; raise ValueError for data too far away."""
        step = 1 << self.block_bits << self.chunk_bits
        self.table = array("I", [HOLE]) * self.reserved
        for extent in extents:
            last = extent.data + extent.length >> self.block_bits
            if last >= HOLE:
                raise ValueError("has data beyond what EROFS can point at")
            for position in range(extent.start, min(_end(extent), size), step):
                self.table[position // step] = (extent.data + position - extent.start) >> self.block_bits

    @property
    def chunk_format(self) -> int:
        """The inode's chunk format: 4-byte block addresses, and the chunk size."""
        return self.chunk_bits

    def packed(self) -> bytes:
        """Return the map as it follows the inode."""
        table = self.table
        if sys.byteorder == "big":
            table = table[:]
            table.byteswap()
        return table.tobytes()


class MapBudget:
    """Limits the entries in the maps of one image."""

    def __init__(self) -> None:
        """Begin with no entries."""
        self._left = MOST_ENTRIES

    def reserve(self, size: int, chunk: int, block_bits: int = BLOCK_BITS) -> ChunkMap:
        """Return an empty map as ``ChunkMap.reserve``; raise ValueError if there are too many entries."""
        made = ChunkMap.reserve(size, chunk, block_bits)
        self._left -= made.reserved
        if self._left < 0:
            raise ValueError(f"is a sparse file too many: their maps would have more than {MOST_ENTRIES} entries")
        return made


def node_chunk(node: Node) -> int:
    """Return the chunk size of a sparse file in the data file."""
    return chunk_size(node.extents or (), node.size, BLOCK)


def chunk_map(node: Node, found: ChunkMap, fd: int, extra: int) -> int:
    """Fill the map that was reserved for a sparse file; return the next free offset of the data file.

    If an extent does not begin and end at chunks, all of them are copied, padded, to the offset ``extra``.
    """
    extents, chunk = node.extents or (), BLOCK << found.chunk_bits
    if not _aligned(extents, node.size, chunk, BLOCK):
        extents, extra = _copied(extents, chunk, fd, extra)
    found.fill(extents, node.size)
    return extra


def chunk_size(extents: Sequence[Extent], size: int, block: int) -> int:
    """Return the chunk size for a sparse file: a power of two, as large as its data allows.

    Data that is not at blocks will be copied in whole pages. If the map were large, chunks are larger, so that map and
    padding together need little: a file may have terabytes of holes.
    """
    if _aligned(extents, size, block, block):
        spans, least = [(part.start, _end(part)) for part in extents], block
    else:
        spans, least = windows(extents, _PAGE), max(_PAGE, block)
    most = block << _MAX_BITS
    chunk = max(least, min(most, _common(spans, size)))
    while -(-size // chunk) > max(_FEW_ENTRIES, len(spans) * chunk // _PAD_FOR_AN_ENTRY) and chunk < most:
        chunk *= 2
    return chunk


def windows(extents: Sequence[Extent], chunk: int) -> list[tuple[int, int]]:
    """Return (start, end) of the extents, extended to whole chunks and joined if they touch."""
    found: list[tuple[int, int]] = []
    for part in extents:
        start, end = part.start // chunk * chunk, -(-_end(part) // chunk) * chunk
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _common(spans: list[tuple[int, int]], size: int) -> int:
    """Return the largest power of two that divides the begin and end of all spans."""
    common = 0
    for start, end in spans:
        # The last chunk may end with the file.
        common = math.gcd(common, start, 0 if end >= size else end)
    return common & -common if common else 1 << (max(size, 1) - 1).bit_length()


def _aligned(extents: Sequence[Extent], size: int, chunk: int, block: int) -> bool:
    """Return whether extents can be mapped without a copy."""
    return not any(
        part.start % chunk or part.data % block or (_end(part) % chunk and _end(part) != size) for part in extents
    )


def _copied(extents: Sequence[Extent], chunk: int, fd: int, extra: int) -> tuple[tuple[Extent, ...], int]:
    result, todo = [], list(reversed(extents))
    for start, end in windows(extents, chunk):
        while todo and todo[-1].start < end:
            part = todo.pop()
            _copy(fd, part, extra + part.start - start)
        result.append(Extent(start, end - start, extra))
        extra += -(-(end - start) // _PAGE) * _PAGE
    return tuple(result), extra


def _copy(fd: int, part: Extent, target: int) -> None:
    done = 0
    while done < part.length:
        data = os.pread(fd, min(2**20, part.length - done), part.data + done)
        if not data:
            raise ValueError("has sparse data beyond the end of its layer")
        write_at(fd, target + done, data)
        done += len(data)


def _end(part: Extent) -> int:
    return part.start + part.length
