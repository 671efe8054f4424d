"""An archive's bytes by position, from a file here; ``source.http.archive`` has the same over the network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from bootc_live.base.errors import SourceError
from bootc_live.source.interface import CHUNK
from bootc_live.system.files import punch_hole

# One look at a header; the next header of an image's small members is often in it, too.
_LOOK = 64 * 1024


class Reader(Protocol):
    """Bytes by position; may be used by several threads at once."""

    @property
    def size(self) -> int:
        """How many there are."""

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes, fewer only at the end; raise SourceError."""

    def peek(self, offset: int, length: int) -> bytes:
        """Return bytes as ``read`` does, but by one try."""

    def stream(self, offset: int, length: int) -> AbstractContextManager[Iterator[bytes]]:
        """Open a span; raise SourceError, also where the bytes end before the span."""

    def release(self, offset: int, length: int) -> None:
        """Hear that a span has been read for the last time."""

    def interrupt(self) -> None:
        """End all reading, for good."""


class FileReader:
    """A file, read in place."""

    def __init__(self, fd: int, typed: str, *, consume: bool = False) -> None:
        """``consume`` gives back the memory or disk of what has been read, for files that are ours alone."""
        self._fd = fd
        self._typed = typed
        self._consume = consume
        self.size = os.fstat(fd).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes, fewer only at the end; raise SourceError."""
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            raise unreadable(self._typed, error) from error

    def peek(self, offset: int, length: int) -> bytes:
        """Return bytes, fewer only at the end; raise SourceError."""
        return self.read(offset, length)

    @contextmanager
    def stream(self, offset: int, length: int) -> Iterator[Iterator[bytes]]:
        """Open a span."""
        yield self._chunks(offset, offset + length)

    def _chunks(self, position: int, end: int) -> Iterator[bytes]:
        while position < end:
            data = self.read(position, min(CHUNK, end - position))
            if not data:
                raise SourceError(
                    f"{self._typed!r} is cut short: it ends inside a member", hint="copy or make the archive anew"
                )
            yield data
            self.release(position, len(data))
            position += len(data)

    def release(self, offset: int, length: int) -> None:
        """Return the span's memory back, where that was asked for."""
        if self._consume:
            punch_hole(self._fd, offset, length)

    def interrupt(self) -> None:
        """Do nothing: a file does not keep anybody waiting."""


def unreadable(typed: str, error: OSError) -> SourceError:
    """Return the error for a file or medium that cannot be read."""
    return SourceError(
        f"{typed!r} cannot be read: {error.strerror or error}", hint="check the medium, or copy the archive anew"
    )


class Window:
    """The headers of a reader's tar, as a Buffer: one look ahead, no more."""

    def __init__(self, reader: Reader) -> None:
        """Begin at the front."""
        self._reader = reader
        self._start, self._seen = 0, b""

    def __len__(self) -> int:
        """Return the size in bytes."""
        return self._reader.size

    def __getitem__(self, key: slice, /) -> bytes:
        """Return bytes, fewer only at the end; raise SourceError."""
        start, stop = key.start, min(key.stop, self._reader.size)
        if start >= stop:
            return b""
        if not self._start <= start <= stop <= self._start + len(self._seen):
            self._start = start
            self._seen = self._reader.read(start, max(stop - start, _LOOK))
        return self._seen[start - self._start : stop - self._start]
