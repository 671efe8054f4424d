"""Decode LZ4's legacy format, in which kernels are compressed (lib/decompress_unlz4.c of the kernel)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

from bootc_live.base.errors import RunError

LIBRARY = "liblz4.so.1"
LZ4 = b"\x02\x21\x4c\x18"
_BLOCK = 8 * 2**20
# LZ4_compressBound() of a block.
LARGEST = _BLOCK + _BLOCK // 255 + 16


class Lz4Decoder:
    """Decodes blocks of a size in four bytes, and data; the magic number may stand between them."""

    def __init__(self, _room: ctypes.Array[ctypes.c_char]) -> None:
        """Prepare; raise RunError if there is no liblz4."""
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise RunError(
                f"lz4 data cannot be decompressed without {LIBRARY}: {error}",
                hint="install it; for an initramfs, install it on the machine that builds it, and build it again",
            ) from error
        self._room = ctypes.create_string_buffer(_BLOCK)
        self._view = memoryview(self._room).cast("B")
        self._rest = bytearray()

    def decode(self, data: memoryview) -> Iterator[memoryview]:
        """Yield whole blocks; raise ValueError if one is damaged."""
        self._rest += data
        while len(self._rest) >= 4:
            size = int.from_bytes(self._rest[:4], "little")
            if self._rest[:4] == LZ4:
                size = 0
            elif size > LARGEST:
                raise ValueError(f"a block has {size} bytes")
            if len(self._rest) < 4 + size:
                return
            block = bytes(self._rest[4 : 4 + size])
            del self._rest[: 4 + size]
            if size:
                count = self._library.LZ4_decompress_safe(block, self._room, size, _BLOCK)
                if count < 0:
                    raise ValueError("a block is damaged")
                yield self._view[:count]

    def end(self) -> None:
        """Raise ValueError if the last block is not complete."""
        if self._rest:
            raise ValueError("its last block has no end")
