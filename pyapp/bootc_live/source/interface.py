"""The interface of all sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from bootc_live.formats.json_text import read_json
from bootc_live.formats.oci.descriptor import FIELDS, Descriptor, parse_descriptor
from bootc_live.formats.oci.manifest import MOST_LAYERS

CHUNK = 1024 * 1024


@dataclass(frozen=True)
class TopManifest:
    """The unverified manifest or index that a source names.

    ``digest`` is the digest that it must have, or None if nothing pins it. ``size`` is the size in an index.
    ``served_by`` names the server, unless the name of the source does.
    """

    content: bytes
    media_type: str
    digest: str | None
    size: int | None = None
    served_by: str | None = None


class Source(Protocol):
    """One image. Blobs are iterators of chunks that the caller must verify."""

    @property
    def source_text(self) -> str:
        """Return the source as the user wrote it, without secrets."""

    @property
    def insecure(self) -> bool:
        """Return whether the user allowed unprotected transfers."""

    def top(self) -> TopManifest:
        """Fetch the manifest or index; raise SourceError."""

    def open_manifest(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Open a manifest from an index; raise SourceError."""

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Open a config or layer, also from several threads; raise SourceError."""

    def served_by(self, descriptor: Descriptor) -> str | None:
        """Return the origin of the bytes of a blob, unless the name of the source shows it."""

    def interrupt(self) -> None:
        """End all reading: threads that wait for bytes would keep the program running."""


@dataclass(frozen=True)
class Member:
    """A regular file of ``size`` bytes in an archive that is read once, from start to end.

    ``chunks`` can be read until the next member is requested; the rest is skipped then.
    """

    name: str
    size: int
    chunks: Iterator[bytes]


@runtime_checkable
class StreamSource(Protocol):
    """An archive that can only be read from start to end, with its members in any order."""

    @property
    def source_text(self) -> str:
        """Return the source as the user wrote it, without secrets."""

    @property
    def insecure(self) -> bool:
        """Return whether the user allowed unprotected transfers."""

    @property
    def docker(self) -> bool:
        """Return whether this is a docker-archive with its manifest.json and config first."""

    @property
    def label(self) -> str | None:
        """Return the name of the image in the archive; None selects ``latest``, or the only one."""

    def size_of(self, name: str) -> int | None:
        """Return the size of a member in bytes, if it is already known."""

    def members(self) -> AbstractContextManager[Iterator[Member]]:
        """Open the archive at its start; raise SourceError, and ImageError if its compression is damaged."""

    def interrupt(self) -> None:
        """End all reading."""


@runtime_checkable
class Peekable(Protocol):
    """A ``Source`` or ``StreamSource`` that can read a few bytes inside a blob."""

    def peek(self, descriptor: Descriptor, offset: int, length: int) -> bytes:
        """Return unverified bytes of a layer, fewer only at its end, also from several threads.

        Try once, because the bytes are optional; raise SourceError.
        """


@runtime_checkable
class SignedSource(Protocol):
    """A source with signatures beside its images, besides being a ``Source``."""

    def signature_manifests(self, digest: str) -> Iterator[bytes]:
        """Yield the manifests of what may hold signatures of the manifest or index with a digest, unverified.

        Their blobs are opened by ``open_blob``. Raise SourceError.
        """

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        """Open a blob; raise SourceError."""


@runtime_checkable
class Hashed(Protocol):
    """A ``StreamSource`` that can compute digests of the whole file."""

    @property
    def hashes(self) -> tuple[str, ...]:
        """Return the algorithms that it computes; with any, the archive is read to the end of the file."""

    def file_digests(self) -> dict[str, str]:
        """Return those digests, in hexadecimal; raise ValueError unless the members were read to the last."""


@runtime_checkable
class Mirrored(Protocol):
    """A ``Source`` with several servers for the same blobs."""

    def distrust(self, descriptor: Descriptor) -> bool:
        """Stop using the servers that sent wrong bytes of a blob; return whether to try again."""


class KeptContent(NamedTuple):
    """A file with a content, and the fs-verity digest that it must have."""

    path: str
    digest: str


class PlacedLayer(NamedTuple):
    """A layer in the data file: its size, and the contents of files that are not there.

    ``left_out`` has these by offset and size in the data file; bytes.
    """

    size: int
    left_out: Mapping[tuple[int, int], KeptContent]


class LayerCache(Protocol):
    """Unpacked layers that earlier runs fetched, by diffID, which the caller must verify; for several threads."""

    @property
    def path(self) -> str:
        """Return the directory."""

    def size(self, diff_id: str) -> int | None:
        """Return the size of a layer in bytes; None if it is not there."""

    def is_known(self, diff_id: str) -> bool:
        """Return whether ``place`` can be expected to write a layer."""

    def place(self, diff_id: str, data: int, offset: int, most: int) -> PlacedLayer | None:
        """Write a layer that need not be verified to its place of at most so many bytes in the data file ``data``.

        Return None if it is not there, or has to be verified; the place may be written then. Raise OutOfMemoryError.
        """

    def open_layer(self, diff_id: str) -> AbstractContextManager[Iterator[bytes] | None]:
        """Open a layer; None if it is not there. Reading may raise SourceError."""

    def discard(self, diff_id: str) -> None:
        """Remove a layer that is wrong, and do not open it again."""

    def keep(self, data: int, layers: Sequence[tuple[str, int, int]]) -> None:
        """Add layers: diffID, offset and size in the data file, a descriptor."""


def entries_of_index(content: bytes) -> list[Descriptor]:
    """Return the entries of an index that can be read, of a document that nobody depends on; the first thousand."""
    try:
        listed = read_json(content, FIELDS)["manifests"]
    except (ValueError, KeyError, TypeError):
        return []
    found = []
    for entry in listed[:MOST_LAYERS] if isinstance(listed, list) else []:
        with suppress(ValueError):
            found.append(parse_descriptor(entry))
    return found


AnySource = Source | StreamSource
