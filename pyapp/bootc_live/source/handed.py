"""An image that the kernel before this one fetched, and what of it has to be fetched now."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

from bootc_live.base.errors import SourceError
from bootc_live.source.archive.files import DirectoryFiles
from bootc_live.source.archive.layout import LayoutSource, blob_name
from bootc_live.source.descriptor import Descriptor
from bootc_live.source.interface import AnySource, Source, StreamSource, TopManifest

Opener = Callable[[], AbstractContextManager[AnySource]]


class HandedSource:
    """Blobs of a layout directory, and those of another source where it has none; see ``Source``.

    A blob's file is removed once it has been read: it lies in memory, and its content is in the root by then.
    """

    def __init__(self, path: str, typed: str, opener: Opener, stack: ExitStack) -> None:
        """``opener`` opens the other source, which happens only if it is needed; ``stack`` closes it."""
        self.typed = typed
        self.insecure = False
        self._path = path
        self._layout = LayoutSource(DirectoryFiles(path, typed), typed, None)
        self._opener, self._stack, self._lock = opener, stack, threading.Lock()
        self._rest: Source | None = None

    def top(self) -> TopManifest:
        """Give the manifest."""
        return self._layout.top()

    @contextmanager
    def open_manifest(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a manifest."""
        with self.open_blob(descriptor) as chunks:
            yield chunks

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a blob, which is removed after a block that ends without an error; raises SourceError."""
        file = os.path.join(self._path, blob_name(descriptor.digest))
        if not os.path.exists(file):
            with self._other(descriptor).open_blob(descriptor) as chunks:
                yield chunks
            return
        with self._layout.open_blob(descriptor) as chunks:
            yield chunks
        with suppress(OSError):
            os.unlink(file)

    def peek(self, descriptor: Descriptor, offset: int, length: int) -> bytes:
        """Give bytes of a blob that is here, unverified; raises SourceError."""
        return self._layout.peek(descriptor, offset, length)

    def whence(self, descriptor: Descriptor) -> str | None:
        """Say where the bytes of a blob came from."""
        return self._rest.whence(descriptor) if self._rest is not None else "the kernel before this one"

    def interrupt(self) -> None:
        """End all reading, for good."""
        self._layout.interrupt()
        with self._lock:
            if self._rest is not None:
                self._rest.interrupt()

    def _other(self, descriptor: Descriptor) -> Source:
        with self._lock:
            if self._rest is None:
                opened = self._stack.enter_context(self._opener())
                if isinstance(opened, StreamSource):
                    raise SourceError(
                        f"{self.typed!r} can only be read as a whole, so it cannot give the blob {descriptor.digest}",
                        hint="make the archive anew, without compression around it",
                    )
                self._rest = opened
            return self._rest


@contextmanager
def open_handed(path: str, typed: str, opener: Opener) -> Iterator[HandedSource]:
    """Open what was handed over in the layout directory ``path``; ``opener`` opens the source of the rest."""
    with ExitStack() as stack:
        yield HandedSource(path, typed, opener, stack)
