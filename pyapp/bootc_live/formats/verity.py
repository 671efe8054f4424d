"""The hash tree of dm-verity (kernel: Documentation/admin-guide/device-mapper/verity.rst): version 1, SHA-256, no salt.

Without a salt, the root hash depends on the data alone, so that it can be known and pinned before a boot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

BLOCK = 4096
_DIGEST = 32
_PER_BLOCK = BLOCK // _DIGEST


@dataclass(frozen=True)
class HashTree:
    """The tree over ``blocks`` blocks of data: ``packed`` is what is stored, the level below the root first.

    ``root_hash`` is written in hexadecimal digits.
    """

    root_hash: str
    blocks: int
    packed: bytes


class TreeHasher:
    """Hashes data that arrives in pieces of whole blocks."""

    def __init__(self) -> None:
        """Begin with no data."""
        self._digests = bytearray()

    def update(self, data: bytes) -> None:
        """Add blocks; raise ValueError if the last one is not whole."""
        if len(data) % BLOCK:
            raise ValueError("not a whole number of blocks")
        self._digests += _hashed(data)

    def finish(self) -> HashTree:
        """Return the tree; raise ValueError if there is no data."""
        level, levels = self._digests, list[bytes]()
        while len(level) > _DIGEST:
            stored = bytes(level) + bytes(-len(level) % BLOCK)
            levels.insert(0, stored)
            level = _hashed(stored)
        if not level:
            raise ValueError("no data")
        return HashTree(level.hex(), len(self._digests) // _DIGEST, b"".join(levels))


def tree_size(size: int) -> int:
    """Return the size of the tree over ``size`` bytes of data, in bytes."""
    blocks, total = -(-size // BLOCK), 0
    while blocks > 1:
        blocks = -(-blocks // _PER_BLOCK)
        total += blocks * BLOCK
    return total


def wrong_blocks(read: Callable[[int], bytes], blocks: int, root_hash: str) -> Iterator[int]:
    """Yield the numbers of blocks that do not fit a root hash: of the ``blocks`` of data, and of the tree behind them.

    ``read`` returns a block by its number. What only a wrong block of the tree could tell about is not read.
    """
    counts = [blocks]
    while counts[-1] > 1:
        counts.append(-(-counts[-1] // _PER_BLOCK))
    begins = [0, *(blocks + sum(counts[level + 1 :]) for level in range(1, len(counts)))]

    def check(level: int, number: int, digest: bytes) -> Iterator[int]:
        data = read(begins[level] + number)
        if hashlib.sha256(data).digest() != digest:
            yield begins[level] + number
        elif level:
            first = number * _PER_BLOCK
            for child in range(first, min(first + _PER_BLOCK, counts[level - 1])):
                place = (child - first) * _DIGEST
                yield from check(level - 1, child, data[place : place + _DIGEST])

    yield from check(len(counts) - 1, 0, bytes.fromhex(root_hash))


def _hashed(data: bytes) -> bytearray:
    view, digests = memoryview(data), bytearray()
    for start in range(0, len(data), BLOCK):
        digests += hashlib.sha256(view[start : start + BLOCK]).digest()
    return digests
