"""Compress with the C libraries of LZ4 and zstd: one call for each extent, without the GIL."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

from bootc_live.base.errors import RootfsError
from bootc_live.config.model import Compression

# Level 3 is zstd's default; higher levels need much more time for little.
_ZSTD_LEVEL = 3
_NAMES = {Compression.LZ4: "liblz4.so.1", Compression.ZSTD: "libzstd.so.1"}

Compress = Callable[[bytes], bytes | None]
Decompress = Callable[[bytes, int], bytes]


def compressor(compression: Compression, largest: int) -> tuple[Compress, str]:
    """Return a function that compresses up to ``largest`` bytes in any thread, and the library's name and version.

    The function returns None for data that does not become smaller. Raise RootfsError if the library is missing.
    """
    library = _library(compression)
    made = _lz4(library, largest) if compression is Compression.LZ4 else _zstd(library, largest)
    return made, f"{compression} {_version(library, compression)}"


def decompressor(compression: Compression) -> Decompress:
    """Return a function that decompresses data to a known size, and raises ValueError if that fails."""
    library = _library(compression)
    lz4 = compression is Compression.LZ4

    def decompress(packed: bytes, size: int) -> bytes:
        room = ctypes.create_string_buffer(size)
        if lz4:
            count = library.LZ4_decompress_safe(packed, room, len(packed), size)
        else:
            count = call(room, size, packed, len(packed))
        if count != size:
            raise ValueError(f"is not {size} bytes compressed with {compression}")
        return room.raw

    if not lz4:
        call = library.ZSTD_decompress
        call.restype = ctypes.c_size_t
        call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    return decompress


def _library(compression: Compression) -> ctypes.CDLL:
    name = _NAMES[compression]
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise RootfsError(
            f"'bootc.live.compress={compression}' needs {name}, which cannot be loaded: {error}",
            hint="install it and rebuild the initramfs, or choose another compression",
        ) from error


def _lz4(library: ctypes.CDLL, largest: int) -> Compress:
    local = threading.local()
    call = library.LZ4_compress_default
    call.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]

    def compress(data: bytes) -> bytes | None:
        room = _room(local, largest)
        # It returns 0 if the result does not fit.
        count = call(data, room, len(data), len(data) - 1)
        return ctypes.string_at(room, count) if count else None

    return compress


def _zstd(library: ctypes.CDLL, largest: int) -> Compress:
    local = threading.local()
    library.ZSTD_createCCtx.restype = ctypes.c_void_p
    library.ZSTD_freeCCtx.argtypes = [ctypes.c_void_p]
    library.ZSTD_isError.argtypes = [ctypes.c_size_t]
    call = library.ZSTD_compressCCtx
    call.restype = ctypes.c_size_t
    call.argtypes = [
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t),
        *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int),
    ]

    def compress(data: bytes) -> bytes | None:
        room = _room(local, largest)
        if not hasattr(local, "context"):
            local.context = _Context(library)
        count = call(local.context.handle, room, len(data) - 1, data, len(data), _ZSTD_LEVEL)
        return None if library.ZSTD_isError(count) else ctypes.string_at(room, count)

    return compress


class _Context:
    """A compression context, freed with its thread."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._free = library.ZSTD_freeCCtx
        self.handle = library.ZSTD_createCCtx()

    def __del__(self) -> None:
        self._free(self.handle)


def _room(local: threading.local, largest: int) -> ctypes.Array[ctypes.c_char]:
    if not hasattr(local, "room"):
        local.room = ctypes.create_string_buffer(largest)
    room: ctypes.Array[ctypes.c_char] = local.room
    return room


def _version(library: ctypes.CDLL, compression: Compression) -> str:
    call = library.LZ4_versionString if compression is Compression.LZ4 else library.ZSTD_versionString
    call.restype = ctypes.c_char_p
    found: bytes = call()
    return found.decode()
