"""What every source offers to the image stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bootc_live.formats.oci.descriptor import Descriptor

CHUNK = 1024 * 1024


@dataclass(frozen=True)
class TopManifest:
    """The manifest or index a name stands for, as the source gave it: unverified.

    ``digest`` is what it must hash to where the name or an enclosing index
    pins it, else None; ``size`` is the number of bytes an index gives;
    ``whence`` says where it came from where the source's name does not.
    """

    content: bytes
    media_type: str
    digest: str | None
    size: int | None = None
    whence: str | None = None


class Source(Protocol):
    """Bytes of one image. The iterators give chunks; whoever reads them verifies."""

    @property
    def typed(self) -> str:
        """The source as the user wrote it."""

    @property
    def insecure(self) -> bool:
        """Return whether the user chose to talk to it without protection."""

    def top(self) -> TopManifest:
        """Fetch what the name stands for; raise SourceError."""

    def open_manifest(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Open a manifest an index points to; raise SourceError."""

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Open a config or layer; may be called from several threads; raise SourceError."""

    def whence(self, descriptor: Descriptor) -> str | None:
        """Say where the bytes of a blob came from, where that is not plain from the source's name."""

    def interrupt(self) -> None:
        """End all that is being read, for good: a thread that waits for bytes would keep the program waiting."""


@dataclass(frozen=True)
class Member:
    """A regular file in an archive that is read once, from front to back; ``size`` is in bytes.

    ``chunks`` is good until the next member is asked for; what is left of it then is passed over.
    """

    name: str
    size: int
    chunks: Iterator[bytes]


@runtime_checkable
class StreamSource(Protocol):
    """An archive that can only be read from front to back, in whatever order its members come."""

    @property
    def typed(self) -> str:
        """The source as the user wrote it."""

    @property
    def insecure(self) -> bool:
        """Return whether the user chose to fetch it without protection."""

    @property
    def docker(self) -> bool:
        """Return whether it is known to be a docker-archive; its manifest.json and config come first then."""

    @property
    def label(self) -> str | None:
        """Which image of the archive is meant; None for ``latest``, or the only one."""

    def size_of(self, name: str) -> int | None:
        """Return a member's size in bytes where it is known before it comes."""

    def members(self) -> AbstractContextManager[Iterator[Member]]:
        """Open it from the front; raise SourceError, and ImageError where its compression is damaged."""

    def interrupt(self) -> None:
        """End the reading, for good."""


@runtime_checkable
class Peekable(Protocol):
    """A source that can show a few bytes out of the middle of a blob, beside being a ``Source`` or ``StreamSource``."""

    def peek(self, descriptor: Descriptor, offset: int, length: int) -> bytes:
        """Return bytes of a layer, unverified, fewer only at its end; may be called from several threads.

        It is tried once, for whoever can do without them; raise SourceError.
        """


@runtime_checkable
class Mirrored(Protocol):
    """A source that may have the same blobs from several places, beside being a ``Source``."""

    def distrust(self, descriptor: Descriptor) -> bool:
        """Ask the places that gave a blob no more, for its bytes were wrong; tell whether others are left."""


AnySource = Source | StreamSource
