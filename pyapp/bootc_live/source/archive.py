"""An OCI archive (``oci-archive:`` of skopeo, podman and buildah) in a file.

Follows image-layout.md of the OCI image specification. Members are read in
place: nothing is ever extracted by name.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bootc_live.base.errors import SourceError
from bootc_live.source.descriptor import Descriptor, parse_descriptor
from bootc_live.source.interface import CHUNK, MANIFEST_LIMIT, TopManifest

_REF_NAMES = ("org.opencontainers.image.ref.name", "io.containerd.image.name")
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_HINT = "make the archive anew, for example with: skopeo copy SOURCE oci-archive:FILE.oci:latest"


@dataclass(frozen=True)
class _Span:
    offset: int
    size: int


class ArchiveSource:
    """An open archive; see ``Source``. Use ``open_archive``."""

    insecure = False

    def __init__(self, typed: str, fd: int, members: dict[str, _Span], label: str | None) -> None:
        """Take the open file and where its members lie."""
        self.typed = typed
        self._fd = fd
        self._members = members
        self._label = label

    def top(self) -> TopManifest:
        """Give the manifest the label names, or an index of those that share the label."""
        if "index.json" not in self._members:
            raise SourceError(f"{self.typed!r} is a tar file, but not an OCI archive: it has no index.json", hint=_HINT)
        chosen = _choose(self.typed, self._read("index.json"), self._label)
        if len(chosen) > 1:
            text = json.dumps({"schemaVersion": 2, "manifests": chosen}).encode()
            return TopManifest(content=text, media_type=_INDEX_TYPE, digest=None)
        try:
            descriptor = parse_descriptor(chosen[0])
        except ValueError as error:
            raise SourceError(f"{self.typed!r} has a damaged index.json: {error}", hint=_HINT) from error
        content = self._read(self._blob_name(descriptor))
        return TopManifest(content, descriptor.media_type, descriptor.digest, descriptor.size)

    @contextmanager
    def open_manifest(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a manifest; raises SourceError where the archive does not hold it."""
        with self.open_blob(descriptor) as chunks:
            yield chunks

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a blob; raises SourceError where the archive does not hold it."""
        yield self._chunks(self._members[self._blob_name(descriptor)])

    def interrupt(self) -> None:
        """Do nothing: a file does not keep anybody waiting."""

    def _blob_name(self, descriptor: Descriptor) -> str:
        name = f"blobs/{descriptor.algorithm}/{descriptor.encoded}"
        if name not in self._members:
            raise SourceError(
                f"{self.typed!r} does not hold the blob {descriptor.digest} that its manifest names", hint=_HINT
            )
        return name

    def _read(self, name: str) -> bytes:
        span = self._members[name]
        if span.size > MANIFEST_LIMIT:
            raise SourceError(
                f"{self.typed!r} has a member {name} of {span.size} bytes, too large for a manifest", hint=_HINT
            )
        return b"".join(self._chunks(span))

    def _chunks(self, span: _Span) -> Iterator[bytes]:
        position, end = span.offset, span.offset + span.size
        while position < end:
            data = os.pread(self._fd, min(CHUNK, end - position), position)
            if not data:
                raise SourceError(f"{self.typed!r} is cut short: it ends inside a member", hint=_HINT)
            yield data
            position += len(data)


@contextmanager
def open_archive(path: str, typed: str, label: str | None) -> Iterator[ArchiveSource]:
    """Open an archive; it is closed with the block.

    ``label`` names the image in its index.json; None takes ``latest``, or the
    only one there is. Raises SourceError.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(
            f"cannot open the archive {typed!r}: {error.strerror}",
            hint="put the archive at this path of the initramfs (embedded, or appended as a cpio) or correct root=",
        ) from error
    try:
        yield ArchiveSource(typed, fd, _members(fd, typed), label)
    finally:
        os.close(fd)


def _members(fd: int, typed: str) -> dict[str, _Span]:
    members: dict[str, _Span] = {}
    try:
        with open(fd, "rb", closefd=False) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isreg():
                    members[member.name.removeprefix("./")] = _Span(member.offset_data, member.size)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise SourceError(f"{typed!r} cannot be read as an OCI archive: {error}", hint=_HINT) from error
    return members


def _choose(typed: str, index: bytes, label: str | None) -> list[dict[str, object]]:
    try:
        entries = [entry for entry in json.loads(index)["manifests"] if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(f"{typed!r} has a damaged index.json: {error}", hint=_HINT) from error
    wanted = label or "latest"
    exact = [entry for entry in entries if wanted in _names(entry)]
    by_tag = [entry for entry in entries if wanted in {_tag(name) for name in _names(entry)}]
    found = exact or by_tag
    if not found and label is None and len(entries) == 1:
        found = entries
    if not found:
        raise SourceError(
            f"{typed!r} holds no image called {wanted!r} (it holds: {_listed(entries)})",
            hint="name one of them with bootclabel=",
        )
    # Images for several platforms share all their names; others only happen to have the same tag.
    if len({frozenset(_names(entry)) for entry in found}) > 1:
        raise SourceError(
            f"{typed!r} holds several images called {wanted!r} (it holds: {_listed(found)})",
            hint="give the whole name of one of them with bootclabel=",
        )
    return found


def _listed(entries: list[dict[str, object]]) -> str:
    return ", ".join(sorted({name for entry in entries for name in _names(entry)})) or "none with a name"


def _names(entry: dict[str, object]) -> set[str]:
    annotations = entry.get("annotations")
    if not isinstance(annotations, dict):
        return set()
    return {str(annotations[key]) for key in _REF_NAMES if key in annotations}


def _tag(name: str) -> str:
    # podman writes the whole reference where skopeo writes the tag alone.
    last = name.rpartition("/")[2]
    return last.partition(":")[2]
