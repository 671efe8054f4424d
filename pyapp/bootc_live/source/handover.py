"""Read an image that the previous kernel fetched, and fetch its missing blobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.errors import SourceError
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.source.archive.files import DirectoryFiles
from bootc_live.source.archive.layout import LayoutSource, blob_name
from bootc_live.source.interface import AnySource, Mirrored, Source, StreamSource, TopManifest


class HandoverSource:
    """The blobs in a layout directory, and those of another source if they are missing there; see ``Source``.

    The file of a blob is removed after reading: it occupies memory, and its content is in the root then.
    """

    def __init__(self, path: str, source_text: str, rest: AnySource | None) -> None:
        """Take missing blobs from the open source ``rest``; raise SourceError if it is a stream."""
        if isinstance(rest, StreamSource):
            raise SourceError(
                f"{source_text!r} can only be read as a whole, so it cannot supply the layers that the previous "
                "kernel did not leave",
                hint="make the archive without compression around it",
            )
        self.source_text = source_text
        self.insecure = False
        self._path = path
        self._layout = LayoutSource(DirectoryFiles(path, source_text), source_text, None)
        self._rest: Source | None = rest

    def top(self) -> TopManifest:
        """Return the manifest."""
        return self._layout.top()

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a blob, and remove its file after a block without an error; raise SourceError."""
        rest = self._other(descriptor)
        if rest is not None:
            with rest.open_blob(descriptor) as chunks:
                yield chunks
            return
        with self._layout.open_blob(descriptor) as chunks:
            yield chunks
        with suppress(OSError):
            os.unlink(self._file(descriptor))

    open_manifest = open_blob

    def peek(self, descriptor: Descriptor, offset: int, length: int) -> bytes:
        """Return unverified bytes of a blob in the directory; raise SourceError."""
        return self._layout.peek(descriptor, offset, length)

    def served_by(self, descriptor: Descriptor) -> str | None:
        """Return the origin of the bytes of a blob."""
        rest = self._other(descriptor)
        return "the previous kernel" if rest is None else rest.served_by(descriptor)

    def distrust(self, descriptor: Descriptor) -> bool:
        """Stop using the servers of a blob in the other source; return whether others are left."""
        rest = self._other(descriptor)
        return False if rest is None else isinstance(rest, Mirrored) and rest.distrust(descriptor)

    def interrupt(self) -> None:
        """End all reading."""
        self._layout.interrupt()
        if self._rest is not None:
            self._rest.interrupt()

    def _other(self, descriptor: Descriptor) -> Source | None:
        """Return the other source if the directory does not contain a blob."""
        return None if os.path.exists(self._file(descriptor)) else self._rest

    def _file(self, descriptor: Descriptor) -> str:
        return os.path.join(self._path, blob_name(descriptor.digest))
