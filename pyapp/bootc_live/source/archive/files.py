"""Random access to named files in a tar archive, in a directory, or in memory."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Protocol

from bootc_live.base.errors import SourceError
from bootc_live.formats.oci.manifest import MANIFEST_LIMIT
from bootc_live.source.archive.reader import HeaderBuffer, Reader, unreadable
from bootc_live.source.archive.tar import Entry, chunks_of, read_entries
from bootc_live.source.interface import CHUNK

HINT = "make the archive again, for example with: skopeo copy SOURCE oci-archive:FILE.oci:latest"


class Files(Protocol):
    """Files by name, with ``/`` between directories."""

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes, or None without such a file."""

    def open(self, name: str) -> AbstractContextManager[Iterator[bytes]]:
        """Open an existing file; raise SourceError."""

    def peek(self, name: str, offset: int, length: int) -> bytes:
        """Return bytes of an existing file, fewer only at its end, by one try; raise SourceError."""

    def interrupt(self) -> None:
        """End all reading."""


class TarFiles:
    """The regular members of an uncompressed tar archive, read in place; links are resolved."""

    def __init__(self, reader: Reader, source_text: str) -> None:
        """Read all headers; raise SourceError if this is not a tar archive."""
        self._reader = reader
        self._entries: dict[str, Entry] = {}
        links: dict[str, str] = {}
        try:
            if not reader.size:
                raise ValueError("it is empty")
            for entry in read_entries(HeaderBuffer(reader)):
                name = plain_name(entry.name)
                if entry.kind == "file":
                    self._entries[name] = entry
                elif entry.kind == "symlink":
                    links[name] = plain_name(os.path.normpath(os.path.join(os.path.dirname(name), entry.link)))
                elif entry.kind == "hardlink":
                    links[name] = plain_name(entry.link)
        except ValueError as error:
            raise SourceError(f"{source_text!r} cannot be read as an OCI archive: {error}", hint=HINT) from error
        entries = self._entries
        entries.update({name: entries[target] for name, target in links.items() if target in entries})

    def size(self, name: str) -> int | None:
        """Return a member's size in bytes, or None."""
        entry = self._entries.get(name)
        return None if entry is None else entry.size

    @contextmanager
    def open(self, name: str) -> Iterator[Iterator[bytes]]:
        """Open a member."""
        entry = self._entries[name]
        with closing(chunks_of(entry, self._reader.stream)) as chunks:
            yield chunks
        for extent in entry.extents:
            self._reader.release(extent.data, extent.length)

    def peek(self, name: str, offset: int, length: int) -> bytes:
        """Return bytes of a member, fewer only at its end, by one try; raise SourceError."""
        entry = self._entries[name]
        end = max(offset, min(offset + length, entry.size))
        found = bytearray(end - offset)
        for extent in entry.extents:
            start, stop = max(offset, extent.start), min(end, extent.start + extent.length)
            if start < stop:
                data = self._reader.peek(extent.data + start - extent.start, stop - start)
                found[start - offset : start - offset + len(data)] = data
        return bytes(found)

    def interrupt(self) -> None:
        """End all reading."""
        self._reader.interrupt()


class DirectoryFiles:
    """The files below a directory."""

    def __init__(self, path: str, source_text: str) -> None:
        """Show ``source_text`` in messages."""
        self._path = path
        self._source_text = source_text

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes, or None."""
        path = os.path.join(self._path, name)
        return os.path.getsize(path) if os.path.isfile(path) else None

    @contextmanager
    def open(self, name: str) -> Iterator[Iterator[bytes]]:
        """Open a file; raise SourceError."""
        with closing(self._chunks(name)) as chunks:
            yield chunks

    def _chunks(self, name: str) -> Generator[bytes, None, None]:
        try:
            with open(os.path.join(self._path, name), "rb", buffering=0) as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except OSError as error:
            raise unreadable(self._source_text, error) from error

    def peek(self, name: str, offset: int, length: int) -> bytes:
        """Return bytes of a file, fewer only at its end; raise SourceError."""
        try:
            with open(os.path.join(self._path, name), "rb", buffering=0) as file:
                return os.pread(file.fileno(), length, offset)
        except OSError as error:
            raise unreadable(self._source_text, error) from error

    def interrupt(self) -> None:
        """Do nothing: reading a file does not block."""


class MemoryFiles:
    """Files in memory."""

    def __init__(self, content: Mapping[str, bytes]) -> None:
        """Use contents by name."""
        self._content = content

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes, or None."""
        content = self._content.get(name)
        return None if content is None else len(content)

    @contextmanager
    def open(self, name: str) -> Iterator[Iterator[bytes]]:
        """Open a file."""
        yield iter([self._content[name]])

    def peek(self, name: str, offset: int, length: int) -> bytes:
        """Return bytes of a file, fewer only at its end."""
        return self._content[name][offset : offset + length]

    def interrupt(self) -> None:
        """Do nothing: reading memory does not block."""


def plain_name(name: str) -> str:
    """Return a member's name without the leading ``./`` of some tools."""
    return name.removeprefix("./")


def read_small(files: Files, name: str, source_text: str) -> bytes:
    """Return the content of a document; raise SourceError if it is too large."""
    size = files.size(name) or 0
    if size > MANIFEST_LIMIT:
        raise SourceError(f"{name} in {source_text!r} has {size} bytes, more than {MANIFEST_LIMIT}", hint=HINT)
    with files.open(name) as chunks:
        return b"".join(chunks)
