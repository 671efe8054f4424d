"""What every source offers to the image stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from bootc_live.source.descriptor import Descriptor

CHUNK = 1024 * 1024
# Registries refuse manifests over 4 MiB (distribution-spec, pushing manifests).
MANIFEST_LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True)
class TopManifest:
    """The manifest or index a name stands for, as the source gave it: unverified.

    ``digest`` is what it must hash to where the name or an enclosing index
    pins it, else None; ``size`` is the number of bytes an index gives.
    """

    content: bytes
    media_type: str
    digest: str | None
    size: int | None = None


class Source(Protocol):
    """Bytes of one image. The iterators give chunks; whoever reads them verifies."""

    @property
    def typed(self) -> str:
        """The source as the user wrote it."""

    @property
    def insecure(self) -> bool:
        """Whether the user chose to talk to it without protection."""

    def top(self) -> TopManifest:
        """Fetch what the name stands for; raises SourceError."""

    def open_manifest(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Open a manifest an index points to; raises SourceError."""

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Open a config or layer; may be called from several threads; raises SourceError."""

    def interrupt(self) -> None:
        """End all that is being read, for good: a thread that waits for bytes would keep the program waiting."""
