"""Inflate a layer straight into the data file: the program writes there itself, and its output is hashed in place.

No byte of the output passes through this process: no pipe, no copy. How far the program has come is the position of
the descriptor it writes to, which it shares with us.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from bootc_live.base.errors import ImageError, RunError
from bootc_live.base.holes import punch
from bootc_live.base.run import Filter, filter_process
from bootc_live.base.units import mib
from bootc_live.image.space import full
from bootc_live.source.inflate import DAMAGED, feed, make_pipe

# Seconds between looks at how far the program has come.
_LOOK = 0.002
_WINDOW = 16 * 2**20
_LEAST_FREE = 2**20


def inflate_into(
    path: str,
    span: tuple[int, int],
    argv: list[str],
    chunks: Iterator[bytes],
    what: str,
    stopped: Callable[[], bool],
    hasher: hashlib._Hash,
) -> int:
    """Let a program inflate ``chunks`` into a ``span`` of a file (from, up to before); give the bytes it wrote.

    Raises ImageError for damaged data and for more of it than the span holds, RunError, and OutOfMemoryError; nothing
    of it stays in the file then.
    """
    begin, _ = span
    out = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.lseek(out, begin, os.SEEK_SET)
        try:
            _run(out, span, argv, chunks, what, stopped, hasher)
        except BaseException as error:
            failure = _explained(error, out, span, what) if isinstance(error, RunError) else None
            punch(out, begin, os.lseek(out, 0, os.SEEK_CUR) - begin + mmap.ALLOCATIONGRANULARITY)
            if failure is not None:
                raise failure from error
            raise
        return os.lseek(out, 0, os.SEEK_CUR) - begin
    finally:
        os.close(out)


def _run(
    out: int,
    span: tuple[int, int],
    argv: list[str],
    chunks: Iterator[bytes],
    what: str,
    stopped: Callable[[], bool],
    hasher: hashlib._Hash,
) -> None:
    feed_read, feed_write = make_pipe()
    ours = [feed_write]
    abandoned = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as feeder:
        try:
            with filter_process(argv, feed_read, out, closing=(feed_read,)) as program:
                program.limit_file(span[1])
                ours.remove(feed_write)
                fed = feeder.submit(feed, feed_write, chunks, abandoned.is_set)
                try:
                    _follow(out, span[0], program, fed, stopped, what, hasher)
                except BaseException:
                    abandoned.set()
                    raise
                # What went wrong with the input explains best what the program says.
                fed.result()
                program.finish()
        finally:
            for descriptor in ours:
                os.close(descriptor)


def _follow(
    out: int,
    begin: int,
    program: Filter,
    fed: Future[None],
    stopped: Callable[[], bool],
    what: str,
    hasher: hashlib._Hash,
) -> None:
    """Hash what the program has written, as it grows, until it ends."""
    hashed, ended = begin, False
    with program.watched() as wait:
        while True:
            written = os.lseek(out, 0, os.SEEK_CUR)
            if written > hashed:
                hashed = _hash(out, hashed, min(written, hashed + _WINDOW), hasher)
            elif ended:
                return
            else:
                ended = wait(_LOOK)
            if stopped():
                raise ImageError(f"{what} was not finished, because another layer failed", hint="see that error")
            if fed.done() and fed.exception() is not None:
                fed.result()


def _hash(fd: int, begin: int, end: int, hasher: hashlib._Hash) -> int:
    aligned = begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    with mmap.mmap(fd, end - aligned, prot=mmap.PROT_READ, offset=aligned) as mapped, memoryview(mapped) as view:
        hasher.update(view[begin - aligned :])
    return end


def _explained(error: RunError, out: int, span: tuple[int, int], what: str) -> Exception:
    usage = os.fstatvfs(out)
    if usage.f_bavail * usage.f_frsize < _LEAST_FREE:
        return full(out, what)
    if f"signal {int(signal.SIGXFSZ)}" in error.message:
        return ImageError(
            f"{what} unpacks to more than {mib(span[1] - span[0])}",
            hint="this is no ordinary image; if it has to be so, squash it into one layer",
        )
    return ImageError(f"{what} is damaged: {error.message}", hint=DAMAGED)
