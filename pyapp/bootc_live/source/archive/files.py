"""Named files to read in any order: members of a tar archive, of a directory, or in memory."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Protocol

from bootc_live.base.errors import SourceError
from bootc_live.source.archive.reader import Reader, Window, unreadable
from bootc_live.source.interface import CHUNK

HINT = "make the archive anew, for example with: skopeo copy SOURCE oci-archive:FILE.oci:latest"


class Files(Protocol):
    """Files by name, ``/`` between directories."""

    def size(self, name: str) -> int | None:
        """Give a file's size in bytes, or None where there is no such file."""

    def open(self, name: str) -> AbstractContextManager[Iterator[bytes]]:
        """Open a file that is there; raises SourceError."""

    def peek(self, name: str, offset: int, length: int) -> bytes:
        """Give bytes of a file that is there, fewer only at its end, by one try; raises SourceError."""

    def interrupt(self) -> None:
        """End all reading, for good."""


@dataclass(frozen=True)
class _Span:
    offset: int
    size: int


class TarFiles:
    """The regular members of an uncompressed tar archive, read in place; links lead to what they name."""

    def __init__(self, reader: Reader, typed: str) -> None:
        """Look through the headers; raises SourceError for what is no tar archive."""
        self._reader = reader
        self._spans: dict[str, _Span] = {}
        links: dict[str, str] = {}
        try:
            with tarfile.open(fileobj=Window(reader), mode="r:") as tar:
                for member in tar:
                    name = plain_name(member.name)
                    if member.isreg():
                        self._spans[name] = _Span(member.offset_data, member.size)
                    elif member.issym():
                        links[name] = plain_name(os.path.normpath(os.path.join(os.path.dirname(name), member.linkname)))
                    elif member.islnk():
                        links[name] = plain_name(member.linkname)
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            raise SourceError(f"{typed!r} cannot be read as an OCI archive: {error}", hint=HINT) from error
        self._spans.update({name: self._spans[target] for name, target in links.items() if target in self._spans})

    def size(self, name: str) -> int | None:
        """Give a member's size in bytes, or None."""
        span = self._spans.get(name)
        return None if span is None else span.size

    @contextmanager
    def open(self, name: str) -> Iterator[Iterator[bytes]]:
        """Open a member."""
        span = self._spans[name]
        with self._reader.stream(span.offset, span.size) as chunks:
            yield chunks
        self._reader.release(span.offset, span.size)

    def peek(self, name: str, offset: int, length: int) -> bytes:
        """Give bytes of a member, fewer only at its end, by one try; raises SourceError."""
        span = self._spans[name]
        return self._reader.peek(span.offset + offset, max(0, min(length, span.size - offset)))

    def interrupt(self) -> None:
        """End all reading, for good."""
        self._reader.interrupt()


class DirectoryFiles:
    """The files below a directory."""

    def __init__(self, path: str, typed: str) -> None:
        """Take the directory's path, and how it was typed."""
        self._path = path
        self._typed = typed

    def size(self, name: str) -> int | None:
        """Give a file's size in bytes, or None."""
        path = os.path.join(self._path, name)
        return os.path.getsize(path) if os.path.isfile(path) else None

    @contextmanager
    def open(self, name: str) -> Iterator[Iterator[bytes]]:
        """Open a file; raises SourceError."""
        with closing(self._chunks(name)) as chunks:
            yield chunks

    def _chunks(self, name: str) -> Generator[bytes, None, None]:
        try:
            with open(os.path.join(self._path, name), "rb", buffering=0) as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except OSError as error:
            raise unreadable(self._typed, error) from error

    def peek(self, name: str, offset: int, length: int) -> bytes:
        """Give bytes of a file, fewer only at its end; raises SourceError."""
        try:
            with open(os.path.join(self._path, name), "rb", buffering=0) as file:
                return os.pread(file.fileno(), length, offset)
        except OSError as error:
            raise unreadable(self._typed, error) from error

    def interrupt(self) -> None:
        """Do nothing: a file does not keep anybody waiting."""


class MemoryFiles:
    """Files whose content is at hand."""

    def __init__(self, content: Mapping[str, bytes]) -> None:
        """Take them by name."""
        self._content = content

    def size(self, name: str) -> int | None:
        """Give a file's size in bytes, or None."""
        content = self._content.get(name)
        return None if content is None else len(content)

    @contextmanager
    def open(self, name: str) -> Iterator[Iterator[bytes]]:
        """Open a file."""
        yield iter([self._content[name]])

    def peek(self, name: str, offset: int, length: int) -> bytes:
        """Give bytes of a file, fewer only at its end."""
        return self._content[name][offset : offset + length]

    def interrupt(self) -> None:
        """Do nothing: memory does not keep anybody waiting."""


def plain_name(name: str) -> str:
    """Give a member's name without the ``./`` that some tools put in front."""
    return name.removeprefix("./")
