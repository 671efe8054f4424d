"""Decompress a stream of a layer: gzip, zstd or uncompressed.

The first bytes decide, because some tools set a wrong media type. The diffID verifies the result.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import itertools
import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

from bootc_live.base.errors import ImageError, RunError
from bootc_live.system.files import write_all
from bootc_live.system.run import filter_process, find_program, require_program

# Maximum output of one step: a decompression bomb must not fill memory.
_STEP = 4 * 1024 * 1024
# Input of one step. The rest after a gzip member is copied, and a member may have only twenty bytes.
_WINDOW = 16 * 1024
_PIPE_SIZE = 1024 * 1024
_F_SETPIPE_SZ = 1031
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
DAMAGED = "push the image again, or create the archive again"


def inflate(chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Yield the tar stream of a layer in bounded pieces.

    Reads the input to its end even if the compressed stream ends earlier, so that the digest is checked. Raises
    ImageError for damaged data, RunError if there is no decompressor for zstd.
    """
    first, whole = peeked(chunks)
    argv = inflater(first)
    if argv is not None:
        return through(argv, whole)
    if not compressed(first):
        return (chunk for chunk in whole if chunk)
    return _zlib(whole) if first.startswith(GZIP) else _zstd(whole)


def peeked(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes of a stream, enough to detect its compression, and the whole stream."""
    first = next(chunks, b"")
    while 0 < len(first) < len(ZSTD):
        more = next(chunks, b"")
        if not more:
            break
        first += more
    return first, itertools.chain([first], chunks)


def inflater(first: bytes) -> list[str] | None:
    """Return the argv of the filter program that decompresses a stream with these first bytes.

    None if Python does it: for uncompressed data, for gzip without igzip, and for zstd if only Python has a module for
    it. Raises RunError if there is neither.
    """
    if first.startswith(GZIP):
        igzip = find_program("igzip")
        return None if igzip is None else [igzip, "-d", "-c"]
    if compressed(first):
        return zstd_program()
    return None


def zstd_program() -> list[str] | None:
    """Return the argv that decompresses zstd, None if only Python can; raises RunError if neither can."""
    if find_program("zstd") is None and python_zstd() is not None:
        return None
    return [require_program("zstd", "decompress zstd data", "zstd"), "-d", "-c", "-q", "--no-progress"]


def python_zstd() -> ModuleType | None:
    """Return the zstd module of the standard library, None before Python 3.14."""
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return None


def compressed(first: bytes) -> bool:
    """Return whether four bytes are the beginning of gzip or zstd data."""
    return first.startswith((GZIP, ZSTD)) or _skippable(first)


def _skippable(first: bytes) -> bool:
    # zstd:chunked and pzstd start with a skippable frame (RFC 8878, 3.1.2).
    return len(first) >= 4 and first[1:4] == b"\x2a\x4d\x18" and 0x50 <= first[0] <= 0x5F


def _zlib(chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    stream = zlib.decompressobj(wbits=31)
    behind = b""
    for chunk in chunks:
        data, at, behind = memoryview(behind + chunk), 0, b""
        while at < len(data):
            if stream.eof:
                if len(data) - at < len(GZIP):
                    behind = bytes(data[at:])
                    break
                if data[at : at + len(GZIP)] != GZIP:
                    # Padding or garbage, which igzip ignores, too. The diffID detects missing data.
                    deque(chunks, maxlen=0)
                    return
                # A file may have several members (RFC 1952).
                stream = zlib.decompressobj(wbits=31)
            given = data[at : at + _WINDOW]
            try:
                piece = stream.decompress(given, _STEP)
            except zlib.error as error:
                raise ImageError(f"it is damaged: {error}", hint=DAMAGED) from error
            if piece:
                yield piece
            at += len(given) - len(stream.unused_data if stream.eof else stream.unconsumed_tail)
    while not stream.eof:
        piece = stream.decompress(b"", _STEP)
        if not piece:
            raise ImageError("it is cut short: its gzip stream has no end", hint=DAMAGED)
        yield piece


def _zstd(chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    zstd = python_zstd()
    assert zstd is not None, "otherwise there is a program"
    stream = zstd.ZstdDecompressor()
    for chunk in chunks:
        for at in range(0, len(chunk), _WINDOW):
            data = chunk[at : at + _WINDOW]
            while data or not (stream.eof or stream.needs_input):
                if stream.eof:
                    # A file may have several frames, some without data (RFC 8878, 3.1).
                    stream = zstd.ZstdDecompressor()
                try:
                    piece = stream.decompress(data, _STEP)
                except zstd.ZstdError as error:
                    raise ImageError(f"it is damaged: {error}", hint=DAMAGED) from error
                data = stream.unused_data if stream.eof else b""
                if piece:
                    yield piece
    if not stream.eof:
        raise ImageError("it is cut short: its last zstd frame has no end", hint=DAMAGED)


def through(argv: list[str], chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Yield the output of a filter program for a stream; a thread writes its input. Raises as ``inflate``."""
    feed_read, feed_write = make_pipe()
    out_read, out_write = make_pipe()
    ours = [feed_write, out_read]
    abandoned = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as feeder:
        try:
            with filter_process(argv, feed_read, out_write, closing=(feed_read, out_write)) as program:
                ours.remove(feed_write)
                try:
                    fed = feeder.submit(feed, feed_write, chunks, abandoned.is_set)
                    while piece := os.read(out_read, _STEP):
                        yield piece
                    # An error of the input is the cause of an error of the program.
                    fed.result()
                    try:
                        program.finish()
                    except RunError as error:
                        raise ImageError(f"it is damaged: {error.message}", hint=DAMAGED) from error
                except BaseException:
                    # Before the program is killed: the feeder must stop reading.
                    abandoned.set()
                    raise
        finally:
            # Before waiting for the feeder: an open pipe would block it.
            for end in ours:
                os.close(end)


def feed(pipe: int, chunks: Iterator[bytes], abandoned: Callable[[], bool]) -> None:
    """Write chunks into a pipe and close it; read all of them even if the program stops reading."""
    is_open = True
    with open(pipe, "wb", buffering=0):
        for chunk in chunks:
            if abandoned():
                return
            if is_open:
                try:
                    write_all(pipe, chunk)
                except BrokenPipeError:
                    # The remaining chunks are read only to hash them.
                    is_open = False


def make_pipe() -> tuple[int, int]:
    """Return the read end and the write end of a large pipe."""
    read, write = os.pipe()
    # A smaller pipe also works, but slower.
    with contextlib.suppress(OSError):
        fcntl.fcntl(write, _F_SETPIPE_SZ, _PIPE_SIZE)
    return read, write
