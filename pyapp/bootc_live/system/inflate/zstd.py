"""Decode zstd with libzstd."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

from bootc_live.base.errors import RunError

LIBRARY = "libzstd.so.1"
ZSTD = b"\x28\xb5\x2f\xfd"


def skippable(first: bytes) -> bool:
    """Return whether a file begins with a skippable frame (RFC 8878, 3.1.2), as zstd:chunked and pzstd write."""
    return len(first) >= 4 and first[1:4] == b"\x2a\x4d\x18" and 0x50 <= first[0] <= 0x5F


class _Buffer(ctypes.Structure):
    """``ZSTD_inBuffer`` and ``ZSTD_outBuffer`` of zstd.h."""

    _fields_ = (("at", ctypes.c_void_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t))


class ZstdDecoder:
    """Decodes a file of one or more frames (RFC 8878, 3); a window may have 128 MiB."""

    def __init__(self, room: ctypes.Array[ctypes.c_char], frame_ended: Callable[[], object] = int) -> None:
        """Return pieces in ``room``; each is valid until the next one. Raise RunError if there is no libzstd.

        ``frame_ended`` is called at the end of each frame, when its last piece was used.
        """
        self._library = library = _library()
        self._room, self._view = room, memoryview(room).cast("B")
        self._context = ctypes.c_void_p(library.ZSTD_createDCtx())
        self._missing = 1
        self._frame_ended = frame_ended

    def decode(self, data: memoryview) -> Iterator[memoryview]:
        """Yield what the next piece of the file decodes to; raise ValueError if it is damaged."""
        library, size = self._library, len(self._room)
        source = _Buffer(ctypes.addressof(ctypes.c_char.from_buffer(data)), len(data), 0)
        target = _Buffer(ctypes.addressof(self._room), size, size)
        # A full buffer means that there may be more, but not after the end of a frame.
        while source.pos < source.size or (target.pos == size and self._missing):
            target.pos = 0
            self._missing = library.ZSTD_decompressStream(self._context, ctypes.byref(target), ctypes.byref(source))
            if library.ZSTD_isError(self._missing):
                raise ValueError(library.ZSTD_getErrorName(self._missing).decode())
            if target.pos:
                yield self._view[: target.pos]
            if not self._missing:
                self._frame_ended()

    def end(self) -> None:
        """Raise ValueError if the file is not complete."""
        if self._missing:
            raise ValueError("its last zstd frame has no end")


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise RunError(
            f"zstd data cannot be decompressed without {LIBRARY}: {error}",
            hint="install it; for an initramfs, install it on the machine that builds it, and build it again",
        ) from error
    library.ZSTD_createDCtx.restype = ctypes.c_void_p
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    library.ZSTD_isError.argtypes = [ctypes.c_size_t]
    library.ZSTD_getErrorName.argtypes = [ctypes.c_size_t]
    library.ZSTD_getErrorName.restype = ctypes.c_char_p
    return library
