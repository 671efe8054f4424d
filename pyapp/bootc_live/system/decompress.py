"""Decompress kernels and initramfs archives.

Reads exactly one compressed stream, because other data may follow. Its first bytes tell the format, as in the kernel's
lib/decompress.c.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from bootc_live.base.errors import ImageError
from bootc_live.base.peekable import PeekableStream
from bootc_live.system.inflate.gzip import GZIP
from bootc_live.system.inflate.lz4 import LARGEST, LZ4
from bootc_live.system.inflate.streams import DAMAGED, through
from bootc_live.system.inflate.zstd import ZSTD

_STEP = 256 * 2**10

Decompressor = Callable[[PeekableStream], Generator[bytes, None, None]]


def decompressed(feed: PeekableStream) -> Generator[bytes, None, None]:
    """Decompress the stream at the beginning of ``feed``, and leave ``feed`` after it.

    Raise ImageError for damaged data and unknown formats, RunError if a program is missing.
    """
    first = feed.peek(6)
    for magic, decompressor in _KNOWN.items():
        if first.startswith(magic):
            return decompressor(feed)
    raise ImageError(f"it has an unknown format (it begins with {first.hex()})", hint="compress it with zstd")


def is_compressed(first: bytes) -> bool:
    """Return whether the first six bytes of a stream are those of a format that ``decompressed`` supports."""
    return first.startswith(tuple(_KNOWN))


def _gzip(feed: PeekableStream) -> Generator[bytes, None, None]:
    stream = zlib.decompressobj(wbits=31)
    ended = False
    while not ended:
        data = feed.read_some(_STEP)
        try:
            piece = stream.decompress(data, _STEP)
        except zlib.error as error:
            raise _damaged(error) from error
        ended = stream.eof
        if not data and not piece and not ended:
            raise _cut_short()
        feed.unread(len(stream.unused_data if ended else stream.unconsumed_tail))
        yield piece


def _lzma(feed: PeekableStream) -> Generator[bytes, None, None]:
    return _stepwise(lzma.LZMADecompressor(), feed)


def _bzip2(feed: PeekableStream) -> Generator[bytes, None, None]:
    return _stepwise(bz2.BZ2Decompressor(), feed)


class _Stream(Protocol):
    """The common interface of decompressors in the standard library."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _stepwise(stream: _Stream, feed: PeekableStream) -> Generator[bytes, None, None]:
    while not stream.eof:
        data = feed.read_some(_STEP) if stream.needs_input else b""
        if stream.needs_input and not data:
            raise _cut_short()
        try:
            yield stream.decompress(data, max_length=_STEP)
        except (lzma.LZMAError, OSError) as error:
            raise _damaged(error) from error
    feed.unread(len(stream.unused_data))


def _zstd(feed: PeekableStream) -> Generator[bytes, None, None]:
    return through("zstd", _zstd_frame(feed))


def _lz4(feed: PeekableStream) -> Generator[bytes, None, None]:
    return through("lz4", _lz4_blocks(feed))


def _zstd_frame(feed: PeekableStream) -> Iterator[bytes]:
    """Yield one frame (RFC 8878, 3.1.1); the program reports damage."""
    head = feed.peek(5)
    descriptor = head[-1]
    one_segment = descriptor >> 5 & 1
    content_size = (one_segment, 2, 4, 8)[descriptor >> 6]
    yield feed.read(5 + (1 - one_segment) + (0, 1, 2, 4)[descriptor & 3] + content_size)
    last = False
    while not last and len(block := feed.read(3)) == 3:
        yield block
        number = int.from_bytes(block, "little")
        last, run_length = bool(number & 1), number >> 1 & 3 == 1
        yield from feed.read_pieces(1 if run_length else number >> 3)
    yield feed.read(4 * (descriptor >> 2 & 1))


def _lz4_blocks(feed: PeekableStream) -> Iterator[bytes]:
    """Yield the blocks of the legacy format, which has no end mark: up to a number that cannot be a block size."""
    while len(head := feed.peek(4)) == 4 and (head == LZ4 or 0 < int.from_bytes(head, "little") <= LARGEST):
        yield feed.read(4)
        if head != LZ4:
            yield from feed.read_pieces(int.from_bytes(head, "little"))


def _damaged(error: Exception) -> ImageError:
    return ImageError(f"it is damaged: {error}", hint=DAMAGED)


def _cut_short() -> ImageError:
    return ImageError("it is cut short", hint=DAMAGED)


_KNOWN: dict[bytes, Decompressor] = {
    GZIP: _gzip,
    b"\x1f\x9e": _gzip,
    b"BZh": _bzip2,
    b"\x5d\x00\x00": _lzma,
    b"\xfd7zXZ\0": _lzma,
    LZ4: _lz4,
    ZSTD: _zstd,
}
