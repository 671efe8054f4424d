"""The hash tree of dm-verity (kernel: Documentation/admin-guide/device-mapper/verity.rst): version 1, SHA-256, no salt.

Without a salt, the root hash depends on the data alone, so that it can be known and pinned before a boot.
"""

from __future__ import annotations

import hashlib
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


def _hashed(data: bytes) -> bytearray:
    view, digests = memoryview(data), bytearray()
    for start in range(0, len(data), BLOCK):
        digests += hashlib.sha256(view[start : start + BLOCK]).digest()
    return digests
