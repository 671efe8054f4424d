"""Decompress a layer while it streams: gzip, zstd or plain, told apart by their first bytes.

The media type is only a claim, and some tools claim wrongly; the diffID decides
whether the result is right.
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
from bootc_live.system.run import filter_process, find_program, require_program

# Output of one step; a bomb must not fill memory before it fills the file system.
_STEP = 4 * 1024 * 1024
# Input of one step of zlib: what a member leaves of it is copied, and a member may have twenty bytes.
_WINDOW = 16 * 1024
_PIPE_SIZE = 1024 * 1024
_F_SETPIPE_SZ = 1031
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
DAMAGED = "push the image again, or make the archive anew"


def inflate(chunks: Iterator[bytes], what: str) -> Generator[bytes, None, None]:
    """Give the layer's tar stream in bounded pieces; ``what`` names it in errors.

    The input is read to its end even if the compressed stream ends earlier, so
    that its digest is checked. Raises ImageError for damaged data and RunError
    where zstd cannot be decompressed here.
    """
    first, whole = peeked(chunks)
    argv = inflater(first)
    if argv is not None:
        return through(argv, whole, what)
    if not compressed(first):
        return (chunk for chunk in whole if chunk)
    return _zlib(whole, what) if first.startswith(GZIP) else _zstd(whole, what)


def peeked(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Give how a stream begins, enough to tell how it is compressed, and the whole stream."""
    first = next(chunks, b"")
    while 0 < len(first) < len(ZSTD):
        more = next(chunks, b"")
        if not more:
            break
        first += more
    return first, itertools.chain([first], chunks)


def inflater(first: bytes) -> list[str] | None:
    """Give the program for a stream that begins like this, reading its input and writing to its output.

    None where no program is needed: for plain data, for gzip where igzip is not packed, and for zstd where that is not
    packed and Python has it. Raises RunError where there is neither.
    """
    if first.startswith(GZIP):
        igzip = find_program("igzip")
        return None if igzip is None else [igzip, "-d", "-c"]
    if compressed(first):
        return zstd_program("decompress zstd layers")
    return None


def zstd_program(purpose: str) -> list[str] | None:
    """Return the program that decompresses zstd, None where Python has to; raise RunError where there is neither."""
    if find_program("zstd") is None and python_zstd() is not None:
        return None
    return [require_program("zstd", purpose, "zstd"), "-d", "-c", "-q", "--no-progress"]


def python_zstd() -> ModuleType | None:
    """Return the standard library's zstd, None before Python 3.14."""
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return None


def compressed(first: bytes) -> bool:
    """Tell gzip and zstd data by their first four bytes."""
    return first.startswith((GZIP, ZSTD)) or _skippable(first)


def _skippable(first: bytes) -> bool:
    # zstd:chunked and pzstd start with a skippable frame (RFC 8878, 3.1.2).
    return len(first) >= 4 and first[1:4] == b"\x2a\x4d\x18" and 0x50 <= first[0] <= 0x5F


def _zlib(chunks: Iterator[bytes], what: str) -> Generator[bytes, None, None]:
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
                    # Padding or garbage: igzip passes over it too. The diffID tells whether something is missing.
                    deque(chunks, maxlen=0)
                    return
                # A new member: RFC 1952 lets a file have several.
                stream = zlib.decompressobj(wbits=31)
            given = data[at : at + _WINDOW]
            try:
                piece = stream.decompress(given, _STEP)
            except zlib.error as error:
                raise ImageError(f"{what} is damaged: {error}", hint=DAMAGED) from error
            if piece:
                yield piece
            at += len(given) - len(stream.unused_data if stream.eof else stream.unconsumed_tail)
    while not stream.eof:
        piece = stream.decompress(b"", _STEP)
        if not piece:
            raise ImageError(f"{what} is cut short: its gzip stream has no end", hint=DAMAGED)
        yield piece


def _zstd(chunks: Iterator[bytes], what: str) -> Generator[bytes, None, None]:
    zstd = python_zstd()
    assert zstd is not None, "a program would have been taken"
    stream = zstd.ZstdDecompressor()
    for chunk in chunks:
        for at in range(0, len(chunk), _WINDOW):
            data = chunk[at : at + _WINDOW]
            while data or not (stream.eof or stream.needs_input):
                if stream.eof:
                    # A new frame: a file may have several, some of which hold nothing of it (RFC 8878, 3.1).
                    stream = zstd.ZstdDecompressor()
                try:
                    piece = stream.decompress(data, _STEP)
                except zstd.ZstdError as error:
                    raise ImageError(f"{what} is damaged: {error}", hint=DAMAGED) from error
                data = stream.unused_data if stream.eof else b""
                if piece:
                    yield piece
    if not stream.eof:
        raise ImageError(f"{what} is cut short: its last zstd frame has no end", hint=DAMAGED)


def through(argv: list[str], chunks: Iterator[bytes], what: str) -> Generator[bytes, None, None]:
    """Give what a program makes of a stream; the errors are those of ``inflate``. The input is read in a thread."""
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
                    # What went wrong with the input explains best what the program says.
                    fed.result()
                    try:
                        program.finish()
                    except RunError as error:
                        raise ImageError(f"{what} is damaged: {error.message}", hint=DAMAGED) from error
                except BaseException:
                    # Before the program is ended: whoever feeds it must not read on without it.
                    abandoned.set()
                    raise
        finally:
            # Before the feeder is waited for: a dead program's pipe must not keep it.
            for end in ours:
                os.close(end)


def feed(pipe: int, chunks: Iterator[bytes], abandoned: Callable[[], bool]) -> None:
    """Write chunks into a pipe and close it; a program that wants no more does not keep them from being read."""
    with open(pipe, "wb", buffering=0):
        _write_all(pipe, chunks, abandoned)


def make_pipe() -> tuple[int, int]:
    """Give the two ends of a large pipe, reading end first."""
    read, write = os.pipe()
    # A smaller pipe than asked for is slower, not wrong.
    with contextlib.suppress(OSError):
        fcntl.fcntl(write, _F_SETPIPE_SZ, _PIPE_SIZE)
    return read, write


def _write_all(pipe: int, chunks: Iterator[bytes], abandoned: Callable[[], bool]) -> None:
    open_end = True
    for chunk in chunks:
        if abandoned():
            return
        view = memoryview(chunk)
        while view and open_end:
            try:
                view = view[os.write(pipe, view) :]
            except BrokenPipeError:
                # It has read all it wants; what is left still has to be hashed.
                open_end = False
