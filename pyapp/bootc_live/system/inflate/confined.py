"""The confined process: reads compressed bytes from one descriptor, and writes what they decode to to another.

Its input may exploit a bug in a decoder. So it belongs to nobody, has three descriptors and can open no other, and may
call nothing of the kernel but what reading, writing and memory need (``system.confine``).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Protocol

from bootc_live.base.errors import RunError
from bootc_live.system.confine import confine_process
from bootc_live.system.files import no_space, write_all
from bootc_live.system.inflate.gzip import GzipDecoder
from bootc_live.system.inflate.lz4 import Lz4Decoder
from bootc_live.system.inflate.zstd import ZstdDecoder

# Small enough for the caches of a processor.
_PIECE = 256 * 1024
# What a decoder may use: zstd's window has up to 128 MiB.
_MEMORY = 256 * 2**20


FRAME_ENDED = b"\0"


class Decoder(Protocol):
    """Decodes a file piece by piece."""

    def decode(self, data: memoryview) -> Iterator[memoryview | bytes]:
        """Yield what the next piece decodes to; raise ValueError if it is damaged."""

    def end(self) -> None:
        """Raise ValueError if the file is not complete."""


def _xz(room: ctypes.Array[ctypes.c_char]) -> Decoder:
    # A late import: an initramfs may lack the library.
    from bootc_live.system.inflate.xz import XzDecoder

    return XzDecoder(room)


DECODERS: dict[str, Callable[[ctypes.Array[ctypes.c_char]], Decoder]] = {
    "gzip": GzipDecoder,
    "zstd": ZstdDecoder,
    "lz4": Lz4Decoder,
    "xz": _xz,
}


class Status(IntEnum):
    """Exit codes. All but the first come with a message."""

    DONE = 0
    DAMAGED = 1
    FULL = 2
    TOO_LARGE = 3
    MISSING = 4
    FAILED = 5


def inflate_confined(source: int, target: int, messages: int, kind: str, most: int) -> int:
    """Decode from ``source`` to ``target``, which must not grow beyond byte ``most`` if it is a file (0: a pipe).

    Return the exit code; write a message to ``messages`` if it is not zero.
    """
    return _inflate(DECODERS[kind], source, target, messages, most)


def inflate_frames_confined(source: int, target: int, messages: int, most: int) -> int:
    """Decode frames of zstd like ``inflate_confined``, and write FRAME_ENDED to ``messages`` after each of them."""

    def decoder(room: ctypes.Array[ctypes.c_char]) -> Decoder:
        return ZstdDecoder(room, lambda: os.write(messages, FRAME_ENDED))

    return _inflate(decoder, source, target, messages, most)


def _inflate(
    make: Callable[[ctypes.Array[ctypes.c_char]], Decoder], source: int, target: int, messages: int, most: int
) -> int:
    try:
        decoder = make(ctypes.create_string_buffer(_PIECE))
        taken = bytearray(_PIECE)
        confine_process(_MEMORY, most)
        _decode(decoder, memoryview(taken), source, target)
    except RunError as error:
        return _fail(messages, Status.MISSING, f"{error.message}\n{error.hint}")
    except ValueError as error:
        return _fail(messages, Status.DAMAGED, str(error))
    except MemoryError:
        return _fail(messages, Status.DAMAGED, "it needs too much memory")
    except OSError as error:
        if error.errno == errno.EFBIG:
            return _fail(messages, Status.TOO_LARGE, "")
        return _fail(messages, Status.FULL if no_space(error) else Status.FAILED, error.strerror or "")
    return Status.DONE


def _decode(decoder: Decoder, taken: memoryview, source: int, target: int) -> None:
    while count := os.readv(source, [taken]):
        for piece in decoder.decode(taken[:count]):
            write_all(target, piece)
    decoder.end()


def _fail(messages: int, status: Status, message: str) -> int:
    os.write(messages, message.encode())
    return status
