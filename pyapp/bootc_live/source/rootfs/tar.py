"""Read a file as the tar of a layer, and tell it from an archive of images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from bootc_live.base.errors import BootcLiveError, SourceError
from bootc_live.source.archive.tar import StreamBuffer, read_entries
from bootc_live.source.interface import CHUNK
from bootc_live.system.inflate.streams import inflate, peeked, through
from bootc_live.system.inflate.xz import XZ

# How archives of images begin: with a blob, a document, or a directory that docker names after a layer.
_OF_IMAGES = re.compile(
    r"(?:\./)*(?:blobs|index\.json|oci-layout|manifest\.json|repositories|[0-9a-f]{64}(?:\.json|\.tar)?)(?:/|\Z)"
)


def read_file(path: str, source_text: str) -> Iterator[bytes]:
    """Yield the bytes of a file; raise SourceError."""
    try:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(CHUNK):
                yield piece
    except OSError as error:
        raise SourceError(
            f"cannot read {source_text!r}: {error.strerror}", hint="check the path, and your permission to read it"
        ) from error


def without_xz(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what chunks decode to if they are xz, which layers of images never are; raise ImageError."""
    first, whole = peeked(chunks)
    return through("xz", whole) if first.startswith(XZ[:4]) else whole


def holds_images(path: str, source_text: str) -> bool:
    """Return whether a file is an archive of images, and not of files; raise SourceError if it is no tar."""
    try:
        pieces = inflate(without_xz(read_file(path, source_text)))
        entries = read_entries(StreamBuffer(pieces))
        # Before its members, a tar of a directory has that directory.
        first = next((entry for entry in entries if entry.name.strip("/") not in ("", ".")), None)
    except (BootcLiveError, ValueError) as error:
        problem = error.message if isinstance(error, BootcLiveError) else str(error)
        raise SourceError(
            f"{source_text!r} is not an archive: {problem.removeprefix('it is ')}",
            hint="name an archive of images, or a tar of files (plain, or compressed with gzip, zstd or xz)",
        ) from error
    return first is None or _OF_IMAGES.match(first.name) is not None


def is_layout(path: str) -> bool:
    """Return whether a directory is an OCI layout (image-layout.md)."""
    return os.path.exists(os.path.join(path, "index.json")) and (
        os.path.exists(os.path.join(path, "oci-layout")) or os.path.isdir(os.path.join(path, "blobs"))
    )
