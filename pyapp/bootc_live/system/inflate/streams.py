"""Inflate a stream of bytes in a confined process.

The first bytes decide on the format, because some tools set a wrong media type. The diffID verifies the result.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from typing import Protocol

from bootc_live.base.errors import ImageError, RunError
from bootc_live.base.units import mib
from bootc_live.system.cleanup.processes import Started, started
from bootc_live.system.files import full, write_all
from bootc_live.system.inflate.confined import Status, inflate_confined
from bootc_live.system.inflate.gzip import GZIP
from bootc_live.system.inflate.zstd import ZSTD, skippable

# Maximum output of one step: a decompression bomb must not fill memory.
_STEP = 4 * 1024 * 1024
_PIPE_SIZE = 1024 * 1024
_F_SETPIPE_SZ = 1031
# Messages of our own are shorter; a decoder that was taken over writes what it likes.
LONGEST_MESSAGE = 4096
DAMAGED = "push the image again, or create the archive again"


def inflate(chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Yield the tar stream of a layer in bounded pieces.

    Reads the input to its end even if the compressed stream ends earlier, so that the digest is checked. Raises
    ImageError for damaged data, RunError if there is no decoder for zstd.
    """
    first, whole = peeked(chunks)
    kind = compression(first)
    return (chunk for chunk in whole if chunk) if kind is None else through(kind, whole)


def peeked(chunks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes of a stream, enough to detect its compression, and the whole stream."""
    first = next(chunks, b"")
    while 0 < len(first) < len(ZSTD):
        more = next(chunks, b"")
        if not more:
            break
        first += more
    return first, itertools.chain([first], chunks)


def compression(first: bytes) -> str | None:
    """Return the name of the decoder for a stream with these first four bytes, None if it is not compressed."""
    if first.startswith(GZIP):
        return "gzip"
    return "zstd" if first.startswith(ZSTD) or skippable(first) else None


def through(kind: str, chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Yield what a stream decodes to, by the decoder ``kind``. Raises as ``inflate``."""
    with large_pipe() as (output, into), inflating(kind, chunks, into.fileno()) as inflater:
        into.close()
        while piece := os.read(output.fileno(), _STEP):
            yield piece
        inflater.finish()


class Inflating(Protocol):
    """Confined processes that decode; see ``inflating``."""

    def ended(self, seconds: float) -> bool:
        """Wait at most some seconds; return whether all output is written. Raise an error of the input."""

    def finish(self) -> None:
        """Wait for the end; raise as ``check_end``, and an error of the input."""


@dataclass(frozen=True)
class Inflater:
    """A confined process that writes to ``target``, and the thread that writes its input; see ``inflating``."""

    target: int
    begin: int
    end: int
    _process: Started
    _messages: FileIO
    _fed: Future[None]

    def ended(self, seconds: float) -> bool:
        """Wait at most some seconds; return whether all output is written. Raise an error of the input."""
        if self._fed.done():
            self._fed.result()
        return self._process.ended(seconds)

    def finish(self) -> None:
        """Wait for the end; raise ImageError for damaged or too much data, RunError, and OutOfMemoryError."""
        # An error of the input is the cause of an error of the decoder.
        self._fed.result()
        check_end(self._process.wait(), self._message(), self.target, self.end - self.begin)

    def _message(self) -> bytes:
        message = b""
        while part := os.read(self._messages.fileno(), LONGEST_MESSAGE):
            message += part
            if len(message) > LONGEST_MESSAGE:
                break
        return message


def check_end(status: int, said: bytes, target: int, most: int) -> None:
    """Raise an error if a confined process that wrote at most ``most`` bytes to ``target`` did not end well.

    ImageError for damaged or too much data, RunError, and OutOfMemoryError.
    """
    if len(said) > LONGEST_MESSAGE:
        raise ImageError("it is damaged: its decoder says too much", hint=DAMAGED)
    message = said.decode(errors="replace")
    match status:
        case Status.DONE:
            return
        case Status.FULL:
            raise full(target)
        case Status.TOO_LARGE:
            raise ImageError(
                f"it unpacks to more than {mib(most)}",
                hint="check the image; if it is really that large, squash it into one layer",
            )
        case Status.MISSING:
            problem, _, hint = message.partition("\n")
            raise RunError(problem, hint=hint)
        case Status.DAMAGED:
            problem = message
        case -9:
            # By SIGKILL, as the kernel does when memory is full.
            raise RunError(
                "a process that decompresses a layer was killed",
                hint="look at the kernel log (dmesg): memory may have been full",
            )
        case Status.FAILED:
            raise RunError(
                f"a process that decompresses a layer failed: {message}", hint="look at the kernel log (dmesg)"
            )
        case status:
            how = f"was killed by signal {-status}" if status < 0 else f"exited with {status}"
            problem = f"its decoder {how}"
    raise ImageError(f"it is damaged: {problem}", hint=DAMAGED)


@contextmanager
def inflating(
    kind: str,
    chunks: Iterator[bytes],
    target: int,
    begin: int = 0,
    end: int = 0,
    wait: Callable[[Callable[[], bool]], None] = lambda _abandoned: None,
) -> Iterator[Inflater]:
    """Decode chunks into a pipe, or sequentially into a part of a file, by a process that ends with the block.

    All chunks are read even if the stream ends earlier. ``wait`` is called after each and may wait until the function
    that it gets returns True. Raise OSError if no process can be started.
    """
    abandoned = threading.Event()
    with (
        large_pipe() as (source, feeding),
        large_pipe() as (messages, told),
        started(inflate_confined, kind, end, descriptors=(source.fileno(), target, told.fileno())) as process,
        ThreadPoolExecutor(max_workers=1) as feeder,
    ):
        source.close()
        told.close()
        fed = feeder.submit(_feed, feeding, chunks, abandoned.is_set, wait)
        try:
            yield Inflater(target, begin, end, process, messages, fed)
        except BaseException:
            # Otherwise the feeder would wait for the process, or read on.
            abandoned.set()
            process.kill()
            raise


def _feed(
    pipe: FileIO, chunks: Iterator[bytes], abandoned: Callable[[], bool], wait: Callable[[Callable[[], bool]], None]
) -> None:
    """Write chunks into a pipe and close it; read all of them even if nobody reads the pipe."""
    with pipe:
        for chunk in chunks:
            if abandoned():
                return
            try:
                if not pipe.closed:
                    write_all(pipe.fileno(), chunk)
            except BrokenPipeError:
                # The remaining chunks are read only to hash them.
                pipe.close()
            wait(abandoned)


@contextmanager
def large_pipe() -> Iterator[tuple[FileIO, FileIO]]:
    """Yield the read end and the write end of a large pipe."""
    read, write = os.pipe()
    with FileIO(read, "rb") as reading, FileIO(write, "wb") as writing:
        # A smaller pipe also works, but slower.
        with suppress(OSError):
            fcntl.fcntl(write, _F_SETPIPE_SZ, _PIPE_SIZE)
        yield reading, writing
