"""Read the bytes of an archive by position in a local file; ``source.http.archive`` does so over the network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from bootc_live.base.errors import SourceError
from bootc_live.source.interface import CHUNK
from bootc_live.system.files import punch_hole

# Bytes to read at a header, which often include the headers of the next small members.
_READ_AHEAD = 64 * 1024


class Reader(Protocol):
    """Bytes by position; can be used by several threads."""

    @property
    def size(self) -> int:
        """Return the number of bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes, fewer only at the end; raise SourceError."""

    def peek(self, offset: int, length: int) -> bytes:
        """Return bytes as ``read`` does, but try once."""

    def stream(self, offset: int, length: int) -> AbstractContextManager[Iterator[bytes]]:
        """Open a part; raise SourceError, also if the bytes end before it does."""

    def release(self, offset: int, length: int) -> None:
        """Free the space of a part, which is not read again."""

    def interrupt(self) -> None:
        """End all reading."""


class FileReader:
    """A file, read in place."""

    def __init__(self, fd: int, source_text: str, *, consume: bool = False) -> None:
        """Free the space of parts that have been read if ``consume`` is set; only for private files."""
        self._fd = fd
        self._source_text = source_text
        self._consume = consume
        self.size = os.fstat(fd).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes, fewer only at the end; raise SourceError."""
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            raise unreadable(self._source_text, error) from error

    def peek(self, offset: int, length: int) -> bytes:
        """Return bytes, fewer only at the end; raise SourceError."""
        return self.read(offset, length)

    @contextmanager
    def stream(self, offset: int, length: int) -> Iterator[Iterator[bytes]]:
        """Open a part."""
        yield self._chunks(offset, offset + length)

    def _chunks(self, position: int, end: int) -> Iterator[bytes]:
        while position < end:
            data = self.read(position, min(CHUNK, end - position))
            if not data:
                raise SourceError(
                    f"{self._source_text!r} is truncated: it ends inside a member",
                    hint="copy or make the archive again",
                )
            yield data
            self.release(position, len(data))
            position += len(data)

    def release(self, offset: int, length: int) -> None:
        """Free the space of a part if ``consume`` is set."""
        if self._consume:
            punch_hole(self._fd, offset, length)

    def interrupt(self) -> None:
        """Do nothing: reading a file does not block."""


def unreadable(source_text: str, error: OSError) -> SourceError:
    """Return the error for a file or device that cannot be read."""
    return SourceError(
        f"cannot read {source_text!r}: {error.strerror or error}", hint="check the device, or copy the archive again"
    )


class HeaderBuffer:
    """The headers of a tar archive as a Buffer, with one read ahead."""

    def __init__(self, reader: Reader) -> None:
        """Start at the first header."""
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
            self._seen = self._reader.read(start, max(stop - start, _READ_AHEAD))
        return self._seen[start - self._start : stop - self._start]
