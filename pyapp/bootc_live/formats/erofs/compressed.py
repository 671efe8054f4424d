"""Compressed files of EROFS: full (8-byte) indexes, big physical clusters, inlined tails.

See erofs_fs.h and Documentation/filesystems/erofs.rst of the kernel. A file is divided into extents of whole logical
clusters. Each extent is compressed separately into a physical cluster.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

CLUSTER = 4096
# Reading any byte decompresses a whole extent. Larger extents compress no better.
EXTENT = 128 * 1024
# Compressed data of less than this size follows the inode and needs no block.
INLINE_LIMIT = 2048

COMPRESSED_FULL = 1
INCOMPAT = 0x1 | 0x2 | 0x10
"""Zero padding before compressed data; configurations and big physical clusters; inlined tails."""

_PLAIN, _HEAD, _NONHEAD = 0, 1, 2
_BIG, _INLINE = 0x2, 0x8
_COUNT_FLAG = 1 << 11
_HEADER = struct.Struct("<HHHBB8x")
_ENTRY = struct.Struct("<HHI")
_LZ4_CONFIG = struct.Struct("<HHH10x")
_ZSTD_CONFIG = struct.Struct("<HBB4x")
_WINDOW_MIN = 10


@dataclass(frozen=True, slots=True)
class Piece:
    """An extent: ``length`` bytes of the file in ``blocks`` blocks from ``block`` on.

    ``raw`` data is not compressed. ``inline`` data has no blocks, and only the last extent of a file has it.
    """

    length: int
    block: int
    blocks: int
    raw: bool = False
    inline: bytes = b""


def configurations(algorithm: int) -> bytes:
    """Return the configuration of an algorithm that follows the superblock: its length and its settings."""
    if algorithm == LZ4:
        return _LZ4_CONFIG.pack(_LZ4_CONFIG.size - 2, 0, (EXTENT + CLUSTER) // CLUSTER)
    return _ZSTD_CONFIG.pack(_ZSTD_CONFIG.size - 2, 0, (EXTENT + CLUSTER).bit_length() - _WINDOW_MIN)


LZ4, ZSTD = 0, 3


def extents(size: int) -> Iterator[int]:
    """Yield the lengths of the extents of a file; the last one includes a short rest, which would need a block."""
    whole, rest = divmod(size, EXTENT)
    if whole and rest < CLUSTER:
        whole, rest = whole - 1, EXTENT + rest
    # Not a list: a tar may claim any size.
    yield from repeat(EXTENT, whole)
    if rest:
        yield rest


def index_size(size: int) -> int:
    """Return the size of the index that follows the inode of a file."""
    return _HEADER.size + -(-size // CLUSTER) * _ENTRY.size


def packed_index(pieces: Sequence[Piece], algorithm: int) -> bytes:
    """Return the index of a file: a header and one entry for each logical cluster."""
    tail = pieces[-1].inline
    parts = [_HEADER.pack(0, len(tail), _BIG | (_INLINE if tail else 0), algorithm, 0)]
    for piece in pieces:
        parts += _raw_entries(piece) if piece.raw else _entries(piece)
    return b"".join(parts)


def _raw_entries(piece: Piece) -> list[bytes]:
    return [_ENTRY.pack(_PLAIN, 0, piece.block + number) for number in range(-(-piece.length // CLUSTER))]


def _entries(piece: Piece) -> list[bytes]:
    whole, rest = divmod(piece.length, CLUSTER)
    result = [_ENTRY.pack(_HEAD, 0, piece.block)]
    for number in range(1, whole):
        # The first entry has the number of blocks, the others the distance to the head.
        back = (piece.blocks or 1) | _COUNT_FLAG if number == 1 else number
        result.append(_ENTRY.pack(_NONHEAD, 0, back | (whole - number) << 16))
    if whole and rest:
        # This entry only marks the end of the extent.
        result.append(_ENTRY.pack(_PLAIN, rest, 0))
    return result
