"""Digests of fs-verity (kernel: Documentation/filesystems/fsverity.rst), and what overlayfs stores of them.

The digest is SHA-256 in blocks of 4096 bytes without a salt, as in ``fsverity digest`` and composefs.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

BLOCK: Final = 4096
SHA256: Final = 1
# Digits of a digest.
DIGITS: Final = 64
_SIZE: Final = 32
_PER_BLOCK: Final = BLOCK // _SIZE
# struct fsverity_descriptor: version, algorithm, bits of a block, size of the salt, size of the data, root hash; the
# salt and the rest are null.
_DESCRIPTOR: Final = struct.Struct("<BBBB4xQ64s176x")
# struct ovl_metacopy of the kernel's fs/overlayfs/overlayfs.h: version, length, flags, algorithm, digest.
_METACOPY: Final = struct.Struct(f"BBBB{_SIZE}s")


class VerityHasher:
    """Computes the digest of a file whose bytes arrive in pieces; use it once."""

    def __init__(self) -> None:
        """Begin with an empty file."""
        self.size = 0
        self._block = bytearray()
        # Digests for the next block of each level of the tree; a block that is full goes to the level above at once.
        self._levels = [bytearray()]

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes."""
        view = memoryview(data)
        self.size += len(view)
        if self._block:
            begun = BLOCK - len(self._block)
            self._block += view[:begun]
            view = view[begun:]
            if len(self._block) < BLOCK:
                return
            self._add(0, hashlib.sha256(self._block).digest())
            self._block.clear()
        whole = len(view) // BLOCK * BLOCK
        digests, sha256 = self._levels[0], hashlib.sha256
        for start in range(0, whole, BLOCK):
            digests += sha256(view[start : start + BLOCK]).digest()
            if len(digests) == BLOCK:
                self._fold(0)
        self._block += view[whole:]

    def skip(self, count: int) -> None:
        """Add null bytes, however many, in no time: a sparse file may have terabytes of them."""
        first = min(count, -self.size % BLOCK)
        self.update(bytes(first))
        blocks, rest = divmod(count - first, BLOCK)
        self.size += blocks * BLOCK
        while blocks:
            level, span = 0, 1
            # The largest subtree of null blocks that may begin here.
            while blocks >= span * _PER_BLOCK and not self._levels[level]:
                level, span = level + 1, span * _PER_BLOCK
                self._reach(level)
            self._add(level, _null(level))
            blocks -= span
        self.update(bytes(rest))

    def digest(self) -> str:
        """Return the digest in hexadecimal digits."""
        if self._block:
            self._add(0, hashlib.sha256(bytes(self._block).ljust(BLOCK, b"\0")).digest())
        level = 0
        # The only digest of the highest level is the root hash; that of an empty file is null.
        while level + 1 < len(self._levels) or len(self._levels[level]) > _SIZE:
            if self._levels[level]:
                self._fold(level)
            level += 1
        return _described(self.size, bytes(self._levels[level]))

    def _add(self, level: int, digest: bytes) -> None:
        digests = self._levels[level]
        digests += digest
        if len(digests) == BLOCK:
            self._fold(level)

    def _fold(self, level: int) -> None:
        """Hash the block of a level, filled up with zeros, and empty it."""
        digests = self._levels[level]
        self._reach(level + 1)
        self._add(level + 1, hashlib.sha256(bytes(digests).ljust(BLOCK, b"\0")).digest())
        digests.clear()

    def _reach(self, level: int) -> None:
        while level >= len(self._levels):
            self._levels.append(bytearray())


def verity_digest(data: bytes | bytearray | memoryview) -> str:
    """Return the digest of a whole file in hexadecimal digits."""
    if 0 < len(data) <= BLOCK:
        # Most files of a system are so small.
        return _described(len(data), hashlib.sha256(bytes(data).ljust(BLOCK, b"\0")).digest())
    hasher = VerityHasher()
    hasher.update(data)
    return hasher.digest()


def _described(size: int, root: bytes) -> str:
    return hashlib.sha256(_DESCRIPTOR.pack(1, SHA256, BLOCK.bit_length() - 1, 0, size, root)).hexdigest()


def metacopy(digest: str) -> bytes:
    """Return the attribute trusted.overlay.metacopy of a file whose data must have a digest."""
    return _METACOPY.pack(0, _METACOPY.size, 0, SHA256, bytes.fromhex(digest))


def _null(level: int) -> bytes:
    """Return the digest in a level of the tree over null blocks."""
    digest = hashlib.sha256(bytes(BLOCK)).digest()
    for _ in range(level):
        digest = hashlib.sha256(digest * _PER_BLOCK).digest()
    return digest
