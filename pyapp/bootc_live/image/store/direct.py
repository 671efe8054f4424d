"""Inflate a layer directly into the data file, and hash it there.

The output is not copied through this process. The file position, which the inflating process shares with us, tells how
much it has written.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from bootc_live.base.errors import ImageError
from bootc_live.image.sink import DataFile, LayerProgress, wait_for
from bootc_live.system.files import punch_hole
from bootc_live.system.inflate.streams import Inflating, inflating
from bootc_live.system.inflate.team import inflating_frames

# Seconds between two looks at the file position.
_LOOK = 0.002
_WINDOW = 16 * 2**20
# Two processes that decode take longer than one on the same two cores, which hash as well.
_WORTH_IT = 3


@dataclass(frozen=True)
class Inflation:
    """Inflates one layer with the decoder ``kind``, which may write from ``begin`` to before ``end``.

    ``stopped`` returns True to end it. ``hasher`` gets the output. ``progress`` is told how much is written, and can
    delay the writer. ``most`` is how many processes may decode it.
    """

    kind: str
    begin: int
    end: int
    stopped: Callable[[], bool]
    hasher: hashlib._Hash
    progress: LayerProgress = DataFile()  # noqa: RUF009
    most: int = 1

    def into(self, path: str, chunks: Iterator[bytes]) -> int:
        """Inflate ``chunks`` into a file; return the size of the output.

        Raise ImageError for damaged or too much data, RunError, and OutOfMemoryError; then remove what was written.
        """
        # The process gets a write-only descriptor: with a readable one, it could map and change the whole file.
        out, seen = (os.open(path, how | os.O_CLOEXEC) for how in (os.O_WRONLY, os.O_RDWR))
        try:
            os.lseek(out, self.begin, os.SEEK_SET)
            try:
                with self._inflating(out, chunks) as inflater:
                    self._follow(out, seen, inflater)
                    inflater.finish()
            except BaseException:
                punch_hole(seen, self.begin, os.lseek(out, 0, os.SEEK_CUR) - self.begin + mmap.ALLOCATIONGRANULARITY)
                raise
            return os.lseek(out, 0, os.SEEK_CUR) - self.begin
        finally:
            os.close(out)
            os.close(seen)

    def _inflating(self, out: int, chunks: Iterator[bytes]) -> AbstractContextManager[Inflating]:
        several = self.most >= _WORTH_IT and self.kind == "zstd"
        inflating_it = partial(inflating_frames, self.most) if several else partial(inflating, self.kind)
        return inflating_it(chunks, out, self.begin, self.end, partial(self._wait, out))

    def _wait(self, out: int, abandoned: Callable[[], bool]) -> None:
        wait_for(self.progress, os.lseek(out, 0, os.SEEK_CUR) - self.begin, abandoned)

    def _follow(self, out: int, seen: int, inflater: Inflating) -> None:
        """Hash the output while it is written."""
        hashed, ended = self.begin, False
        while True:
            written = os.lseek(out, 0, os.SEEK_CUR)
            if written > hashed:
                hashed = _hash(seen, hashed, min(written, hashed + _WINDOW), self.hasher)
                self.progress.advance(hashed - self.begin)
            elif ended:
                return
            else:
                ended = inflater.ended(_LOOK)
            if self.stopped():
                raise ImageError("it was not finished, because another layer failed", hint="see that error")


def _hash(fd: int, begin: int, end: int, hasher: hashlib._Hash) -> int:
    aligned = begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    with mmap.mmap(fd, end - aligned, prot=mmap.PROT_READ, offset=aligned) as mapped, memoryview(mapped) as view:
        hasher.update(view[begin - aligned :])
    return end
