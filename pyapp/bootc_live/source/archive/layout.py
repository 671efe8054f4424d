"""Read an OCI image layout (image-layout.md of the OCI image specification)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.errors import SourceError
from bootc_live.formats.json_text import read_json
from bootc_live.formats.oci.descriptor import FIELDS, REF_NAME, Descriptor, parse_descriptor
from bootc_live.source.archive.files import HINT, Files, read_small
from bootc_live.source.archive.labels import choose
from bootc_live.source.interface import TopManifest, entries_of_index

_NAMES = (REF_NAME, "io.containerd.image.name")
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


class MissingBlobError(SourceError):
    """A layout does not contain a blob."""


class LayoutSource:
    """The image with a label in a layout; see ``Source``."""

    def __init__(self, files: Files, source_text: str, label: str | None, *, insecure: bool = False) -> None:
        """Select the image with a label in index.json; None selects ``latest``, or the only one."""
        self.source_text = source_text
        self.insecure = insecure
        self._files = files
        self._label = label

    def top(self) -> TopManifest:
        """Return the selected manifest, or an index of several images with the same names or none."""
        if self._files.size("index.json") is None:
            raise SourceError(f"{self.source_text!r} is not an OCI archive or layout: it has no index.json", hint=HINT)
        chosen = _choose(self.source_text, read_small(self._files, "index.json", self.source_text), self._label)
        if len(chosen) > 1:
            text = json.dumps({"schemaVersion": 2, "manifests": chosen}).encode()
            return TopManifest(content=text, media_type=_INDEX_TYPE, digest=None)
        try:
            descriptor = parse_descriptor(chosen[0])
        except ValueError as error:
            raise SourceError(f"{self.source_text!r} has a damaged index.json: {error}", hint=HINT) from error
        content = read_small(self._files, self._blob_name(descriptor), self.source_text)
        return TopManifest(content, descriptor.media_type, descriptor.digest, descriptor.size)

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a blob; raise MissingBlobError without one."""
        with self._files.open(self._blob_name(descriptor)) as chunks:
            yield chunks

    open_manifest = open_blob

    def peek(self, descriptor: Descriptor, offset: int, length: int) -> bytes:
        """Return bytes of a blob, unverified; raise SourceError."""
        return self._files.peek(self._blob_name(descriptor), offset, length)

    def signature_manifests(self, digest: str) -> Iterator[bytes]:
        """Yield the manifests in the layout that are no images: those of signatures are among them."""
        for entry in entries_of_index(read_small(self._files, "index.json", self.source_text)):
            if entry.is_artifact and entry.digest != digest and self._files.size(blob_name(entry.digest)) is not None:
                yield read_small(self._files, blob_name(entry.digest), self.source_text)

    def served_by(self, _descriptor: Descriptor) -> str | None:
        """Return None: there is only one origin."""
        return None

    def interrupt(self) -> None:
        """End all reading."""
        self._files.interrupt()

    def _blob_name(self, descriptor: Descriptor) -> str:
        name = blob_name(descriptor.digest)
        if self._files.size(name) is None:
            raise MissingBlobError(
                f"{self.source_text!r} does not contain the blob {descriptor.digest}, which its manifest names",
                hint=HINT,
            )
        return name


def blob_name(digest: str) -> str:
    """Return the name of a blob's file (image-layout.md, blobs)."""
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded}"


def _choose(source_text: str, index: bytes, label: str | None) -> list[dict[str, object]]:
    try:
        document = read_json(index, FIELDS)
        entries = [entry for entry in document["manifests"] if isinstance(entry, dict)]
        if "layers" in document or "config" in document:
            raise ValueError("it is a manifest, too")
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{source_text!r} has a damaged index.json: {error}", hint=HINT) from error
    images = [entry for entry in entries if not _is_artifact(entry)] if label is None else entries
    return choose(source_text, images or entries, _names, label)


def _is_artifact(entry: dict[str, object]) -> bool:
    try:
        return parse_descriptor(entry).is_artifact
    except ValueError:
        return False


def _names(entry: dict[str, object]) -> set[str]:
    annotations = entry.get("annotations")
    if not isinstance(annotations, dict):
        return set()
    return {str(annotations[key]) for key in _NAMES if annotations.get(key)}
