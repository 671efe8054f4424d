"""An image that the kernel before this one fetched, and what of it has to be fetched now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.errors import SourceError
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.source.archive.files import DirectoryFiles
from bootc_live.source.archive.layout import LayoutSource, blob_name
from bootc_live.source.interface import AnySource, Mirrored, Source, StreamSource, TopManifest


class HandedSource:
    """Blobs of a layout directory, and those of another source where it has none; see ``Source``.

    A blob's file is removed once it has been read: it lies in memory, and its content is in the root by then.
    """

    def __init__(self, path: str, typed: str, rest: AnySource | None) -> None:
        """Take the other source, open, or None where the directory has all. Raise SourceError for one of no use."""
        if isinstance(rest, StreamSource):
            raise SourceError(
                f"{typed!r} can only be read as a whole, so it cannot give the layers that the kernel before this one "
                "did not leave",
                hint="make the archive anew, without compression around it",
            )
        self.typed = typed
        self.insecure = False
        self._path = path
        self._layout = LayoutSource(DirectoryFiles(path, typed), typed, None)
        self._rest: Source | None = rest

    def top(self) -> TopManifest:
        """Return the manifest."""
        return self._layout.top()

    @contextmanager
    def open_manifest(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a manifest."""
        with self.open_blob(descriptor) as chunks:
            yield chunks

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a blob, which is removed after a block that ends without an error; raise SourceError."""
        rest = self._other(descriptor)
        if rest is not None:
            with rest.open_blob(descriptor) as chunks:
                yield chunks
            return
        with self._layout.open_blob(descriptor) as chunks:
            yield chunks
        with suppress(OSError):
            os.unlink(self._file(descriptor))

    def peek(self, descriptor: Descriptor, offset: int, length: int) -> bytes:
        """Return bytes of a blob that is here, unverified; raise SourceError."""
        return self._layout.peek(descriptor, offset, length)

    def whence(self, descriptor: Descriptor) -> str | None:
        """Say where the bytes of a blob came from."""
        rest = self._other(descriptor)
        return "the kernel before this one" if rest is None else rest.whence(descriptor)

    def distrust(self, descriptor: Descriptor) -> bool:
        """Ask the places that gave a blob no more, where there are others."""
        rest = self._other(descriptor)
        return False if rest is None else isinstance(rest, Mirrored) and rest.distrust(descriptor)

    def interrupt(self) -> None:
        """End all reading, for good."""
        self._layout.interrupt()
        if self._rest is not None:
            self._rest.interrupt()

    def _other(self, descriptor: Descriptor) -> Source | None:
        """Return the source that has to give a blob, None where it is here, or nowhere."""
        return None if os.path.exists(self._file(descriptor)) else self._rest

    def _file(self, descriptor: Descriptor) -> str:
        return os.path.join(self._path, blob_name(descriptor.digest))
