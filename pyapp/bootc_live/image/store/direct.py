"""Inflate a layer with a program that writes directly into the data file, where its output is hashed.

The output is not copied through this process. The file position, which the program shares with us, tells how much it
has written.
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

# Seconds between two looks at the file position.
_LOOK = 0.002
_WINDOW = 16 * 2**20
_LEAST_FREE = 2**20
# Messages of igzip and zstd.
_WRITING = re.compile("while writing|[Ww]rite error")


@dataclass(frozen=True)
class Inflation:
    """Inflates one layer with ``program`` (an argv), which may write from ``begin`` to before ``end``.

    ``stopped`` returns True to end it. ``hasher`` gets the output. ``ran_full`` is shared by all layers, and set by the
    first that finds the file system full. ``progress`` is told how much is written, and can delay the writer.
    """

    program: Sequence[str]
    begin: int
    end: int
    stopped: Callable[[], bool]
    hasher: hashlib._Hash
    ran_full: threading.Event
    progress: LayerProgress = DataFile()  # noqa: RUF009

    def into(self, path: str, chunks: Iterator[bytes]) -> int:
        """Inflate ``chunks`` into a file; return the size of the output.

        Raise ImageError for damaged or too much data, RunError, and OutOfMemoryError; then remove what was written.
        """
        # The program gets a write-only descriptor: with a readable one, it could map and change the whole file.
        out, seen = (os.open(path, how | os.O_CLOEXEC) for how in (os.O_WRONLY, os.O_RDWR))
        try:
            os.lseek(out, self.begin, os.SEEK_SET)
            try:
                self._run(out, seen, chunks)
            except BaseException as error:
                # Before the space is freed, because its lack may be the reason.
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
                        # An error of the input is the cause of an error of the program.
                        fed.result()
                        program.finish()
                    except BaseException:
                        # Before the program is ended: the feeder must stop reading.
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
        """Hash the output while the program writes it."""
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
                    raise ImageError("it was not finished, because another layer failed", hint="see that error")
                if fed.done():
                    # Raise an error of the input.
                    fed.result()

    def _explained(self, error: RunError, out: int) -> Exception:
        usage = os.fstatvfs(out)
        # Programs do not report why they cannot write, and space may have been freed since.
        cannot_write = _WRITING.search(error.message) is not None
        if self.ran_full.is_set() or cannot_write or usage.f_bavail * usage.f_frsize < _LEAST_FREE:
            self.ran_full.set()
            return full(out)
        if f"signal {signal.SIGXFSZ.value}" in error.message:
            return ImageError(
                f"it unpacks to more than {mib(self.end - self.begin)}",
                hint="check the image; if it is really that large, squash it into one layer",
            )
        return ImageError(f"it is damaged: {error.message}", hint=DAMAGED)


def _hash(fd: int, begin: int, end: int, hasher: hashlib._Hash) -> int:
    aligned = begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    with mmap.mmap(fd, end - aligned, prot=mmap.PROT_READ, offset=aligned) as mapped, memoryview(mapped) as view:
        hasher.update(view[begin - aligned :])
    return end
