"""Inflate a layer straight into the data file: the program writes there itself, and its output is hashed in place.

No byte of the output passes through this process: no pipe, no copy. How far the program has come is the position of
the descriptor it writes to, which it shares with us.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from bootc_live.base.errors import ImageError, RunError
from bootc_live.base.units import mib
from bootc_live.image.sink import DataFile, LayerProgress, wait_for
from bootc_live.system.files import full, punch_hole
from bootc_live.system.inflate import DAMAGED, feed, make_pipe
from bootc_live.system.run import Filter, filter_process

# Seconds between looks at how far the program has come.
_LOOK = 0.002
_WINDOW = 16 * 2**20
_LEAST_FREE = 2**20
# Of igzip and zstd.
_WRITING = re.compile("while writing|[Ww]rite error")


@dataclass(frozen=True)
class Inflation:
    """One layer on its way into the data file: ``program`` (an argv) may write from ``begin`` up to before ``end``.

    ``what`` is the layer for messages; ``stopped`` tells that it is not wanted any more; ``hasher`` gets what came out;
    ``ran_full`` is shared by all layers of a file, and set by the first that finds its file system full. ``progress``
    is told how far it has come, and may hold it up.
    """

    program: Sequence[str]
    begin: int
    end: int
    what: str
    stopped: Callable[[], bool]
    hasher: hashlib._Hash
    ran_full: threading.Event
    progress: LayerProgress = DataFile()  # noqa: RUF009

    def into(self, path: str, chunks: Iterator[bytes]) -> int:
        """Inflate ``chunks`` into a file; give how many bytes came out.

        Raises ImageError for damaged data and for too much of it, RunError, and OutOfMemoryError; nothing of it stays
        in the file then.
        """
        # The program's own can only be written to: what can be read can be mapped, and changed anywhere.
        out, seen = (os.open(path, how | os.O_CLOEXEC) for how in (os.O_WRONLY, os.O_RDWR))
        try:
            os.lseek(out, self.begin, os.SEEK_SET)
            try:
                self._run(out, seen, chunks)
            except BaseException as error:
                # Before the space is given back: then nobody could tell any more what it was.
                failure = self._explained(error, out) if isinstance(error, RunError) else None
                punch_hole(seen, self.begin, os.lseek(out, 0, os.SEEK_CUR) - self.begin + mmap.ALLOCATIONGRANULARITY)
                if failure is not None:
                    raise failure from error
                raise
            return os.lseek(out, 0, os.SEEK_CUR) - self.begin
        finally:
            os.close(out)
            os.close(seen)

    def _run(self, out: int, seen: int, chunks: Iterator[bytes]) -> None:
        feed_read, feed_write = make_pipe()
        ours = [feed_write]
        abandoned = threading.Event()
        with ThreadPoolExecutor(max_workers=1) as feeder:
            try:
                with filter_process(self.program, feed_read, out, (feed_read,), self.end) as program:
                    ours.remove(feed_write)
                    paced = self._paced(out, chunks, abandoned.is_set)
                    try:
                        fed = feeder.submit(feed, feed_write, paced, abandoned.is_set)
                        self._follow(out, seen, program, fed)
                        # What went wrong with the input explains best what the program says.
                        fed.result()
                        program.finish()
                    except BaseException:
                        # Before the program is ended: whoever feeds it must not read on without it.
                        abandoned.set()
                        raise
            finally:
                for descriptor in ours:
                    os.close(descriptor)

    def _paced(self, out: int, chunks: Iterator[bytes], abandoned: Callable[[], bool]) -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk
            wait_for(self.progress, os.lseek(out, 0, os.SEEK_CUR) - self.begin, abandoned)

    def _follow(self, out: int, seen: int, program: Filter, fed: Future[None]) -> None:
        """Hash what the program has written, as it grows, until it ends."""
        hashed, ended = self.begin, False
        with program.watched() as wait:
            while True:
                written = os.lseek(out, 0, os.SEEK_CUR)
                if written > hashed:
                    hashed = _hash(seen, hashed, min(written, hashed + _WINDOW), self.hasher)
                    self.progress.advance(hashed - self.begin)
                elif ended:
                    return
                else:
                    ended = wait(_LOOK)
                if self.stopped():
                    raise ImageError(
                        f"{self.what} was not finished, because another layer failed", hint="see that error"
                    )
                if fed.done():
                    # Raises what ended the input.
                    fed.result()

    def _explained(self, error: RunError, out: int) -> Exception:
        usage = os.fstatvfs(out)
        # Programs do not say why they cannot write, and another layer, or the reader of this one, may have given space
        # back by now.
        cannot_write = _WRITING.search(error.message) is not None
        if self.ran_full.is_set() or cannot_write or usage.f_bavail * usage.f_frsize < _LEAST_FREE:
            self.ran_full.set()
            return full(out, self.what)
        if f"signal {signal.SIGXFSZ.value}" in error.message:
            return ImageError(
                f"{self.what} unpacks to more than {mib(self.end - self.begin)}",
                hint="this is no ordinary image; if it has to be so, squash it into one layer",
            )
        return ImageError(f"{self.what} is damaged: {error.message}", hint=DAMAGED)


def _hash(fd: int, begin: int, end: int, hasher: hashlib._Hash) -> int:
    aligned = begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    with mmap.mmap(fd, end - aligned, prot=mmap.PROT_READ, offset=aligned) as mapped, memoryview(mapped) as view:
        hasher.update(view[begin - aligned :])
    return end
