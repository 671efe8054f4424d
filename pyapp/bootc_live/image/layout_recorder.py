"""Record the blobs of an image, while they are fetched, as an OCI layout in a cpio archive for an initramfs.

The manifest gives the size of each blob, so every blob is written only once, to its final place.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from bootc_live.base.advice import advise
from bootc_live.base.errors import LandingError, OutOfMemoryError, about
from bootc_live.base.units import mib
from bootc_live.formats import cpio
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.image.verified import ResolvedImage
from bootc_live.source.archive.layout import blob_name
from bootc_live.source.interface import Mirrored, Source, TopManifest
from bootc_live.system.files import punch_hole, space_for, write_at

_DIRECTORY, _FILE = 0o40755, 0o100644
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CHUNK = 2**20
_PAGE = mmap.ALLOCATIONGRANULARITY


@dataclass(frozen=True)
class RecordedLayout:
    """A cpio archive with an OCI layout: the first ``size`` bytes of the file ``path``.

    ``digest`` is that of the image's manifest; ``missing`` are the digests of layers that it does not contain.
    """

    path: str
    size: int
    digest: str
    missing: frozenset[str]

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive."""
        with open(self.path, "rb") as file:
            left = self.size
            while left and (chunk := file.read(min(_CHUNK, left))):
                yield chunk
                left -= len(chunk)


@dataclass
class _Plan:
    """Offsets by digest: of the headers and the data of blobs, and of the ends of their places."""

    image: ResolvedImage
    heads: dict[str, int]
    places: dict[str, int]
    ends: dict[str, int]
    size: int


@dataclass(frozen=True)
class RecordLimit:
    """The bytes of layers that may be recorded; None is no limit.

    If an image has more, the largest layers are left out, or, with ``whole``, it is an error.
    """

    room: int | None = None
    whole: bool = False


class LayoutRecorder:
    """Records the blobs of one image in the file ``path``, below the directory ``prefix`` of a cpio."""

    def __init__(self, path: str, prefix: str) -> None:
        """Create the file; raise OSError."""
        self.path = path
        self.limit = RecordLimit()
        self._prefix = prefix
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._plan: _Plan | None = None
        self._complete: set[str] = set()

    def close(self) -> None:
        """Close the file, which stays."""
        os.close(self._fd)

    def wrap(self, source: Source, image: ResolvedImage, known: Mapping[str, bytes]) -> Source:
        """Return a source that records the layers read from it; those of earlier sources with the same image stay.

        Raise OutOfMemoryError and LandingError.
        """
        digest = image.manifest_digest
        if digest is None or digest not in known:
            return source
        if self._plan is None or self._plan.image.manifest_digest != digest:
            self._forget()
            with about("the image's manifest in the next initrd"), space_for(self._fd):
                try:
                    self._plan = self._write_plan(image, digest, known)
                except ValueError as error:
                    raise LandingError(
                        f"{image.source_text!r} cannot be part of an initramfs: {error}",
                        hint=advise("boot with bootc.kexec.reuse-image=0", "leave out --rootfs"),
                    ) from error
        return _RecordedSource(source, self)

    def finish(self, image: ResolvedImage) -> RecordedLayout | None:
        """Return the complete blobs of this image, or None if nothing of it was recorded."""
        plan = self._plan
        if plan is None or plan.image.manifest_digest is None or plan.image.manifest_digest != image.manifest_digest:
            # The recorded image is that of a source that failed.
            self._forget()
            return None
        for digest, head in plan.heads.items():
            if digest not in self._complete:
                # End the archive here; the kernel skips zeros up to the next archive.
                end = cpio.trailer()
                write_at(self._fd, head, end)
                self._clear(head + len(end), plan.ends[digest])
        missing = _needed(plan.image).keys() - self._complete
        return RecordedLayout(self.path, plan.size, plan.image.manifest_digest, frozenset(missing))

    def tee(self, descriptor: Descriptor, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the chunks of a layer, and record them."""
        offset = None if self._plan is None else self._plan.places.get(descriptor.digest)
        end = 0 if offset is None else offset + descriptor.size
        for chunk in chunks:
            if offset is not None:
                # The reader reports excess bytes.
                offset = self._write(offset, memoryview(chunk)[: end - offset], descriptor)
            yield chunk

    def started(self, descriptor: Descriptor) -> None:
        """Mark a layer as missing."""
        self._complete.discard(descriptor.digest)

    def verified(self, descriptor: Descriptor) -> None:
        """Mark a layer as complete and verified."""
        if self._plan is not None and descriptor.digest in self._plan.places:
            self._complete.add(descriptor.digest)

    def _write_plan(self, image: ResolvedImage, digest: str, known: Mapping[str, bytes]) -> _Plan:
        config = image.manifest.config
        small = {
            "oci-layout": _LAYOUT,
            "index.json": _index(digest, known[digest]),
            blob_name(digest): known[digest],
            blob_name(config.digest): known[config.digest],
        }
        layers = _needed(image)
        if config.digest in layers:
            del layers[config.digest]
        room = self.limit.room
        if self.limit.whole and room is not None and image.compressed_size > room:
            raise OutOfMemoryError(
                f"handing over the layers of {image.source_text!r} needs 2 × {mib(image.compressed_size)} temporarily; "
                f"memory is available for 2 × {mib(room)}",
                hint="give the machine more memory, or boot from a registry, where the next kernel can fetch them, too",
            )
        layers = _fitting(layers, room)
        names = [f"{self._prefix}/{name}" for name in (*small, *(blob_name(layer) for layer in layers))]
        plan = _Plan(image, {}, {}, {}, 0)
        at, inodes = 0, count(1)
        for name in cpio.directories(names):
            at = self._put(at, cpio.header(name, _DIRECTORY, 0, next(inodes)))
        for name, content in small.items():
            head = cpio.header(f"{self._prefix}/{name}", _FILE, len(content), next(inodes))
            at = self._put(at, head + content + cpio.padding(len(content)))
        for layer, descriptor in layers.items():
            plan.heads[layer] = at
            head = cpio.header(f"{self._prefix}/{blob_name(layer)}", _FILE, descriptor.size, next(inodes))
            at = self._put(at, head)
            plan.places[layer] = at
            at += descriptor.size
            at = plan.ends[layer] = self._put(at, cpio.padding(descriptor.size))
        plan.size = self._put(at, cpio.trailer())
        os.ftruncate(self._fd, plan.size)
        return plan

    def _forget(self) -> None:
        self._plan = None
        self._complete.clear()
        os.ftruncate(self._fd, 0)

    def _clear(self, begin: int, end: int) -> None:
        """Overwrite a part of the file with zeros; punching holes frees only whole pages."""
        punch_hole(self._fd, begin, end - begin)
        for start in (begin, max(begin, end - _PAGE)):
            write_at(self._fd, start, bytes(min(_PAGE, end - start)))

    def _put(self, offset: int, content: bytes) -> int:
        return write_at(self._fd, offset, content)

    def _write(self, offset: int, view: memoryview, descriptor: Descriptor) -> int:
        with about(f"the blob {descriptor.digest} in the next initrd"), space_for(self._fd):
            return write_at(self._fd, offset, view)


class _RecordedSource:
    """A source whose layers are recorded; see ``Source``."""

    def __init__(self, source: Source, recorder: LayoutRecorder) -> None:
        self._source, self._recorder = source, recorder

    @property
    def source_text(self) -> str:
        """The source as typed."""
        return self._source.source_text

    @property
    def insecure(self) -> bool:
        """Whether it is used without verified TLS."""
        return self._source.insecure

    def top(self) -> TopManifest:
        """Fetch the manifest or index that the name refers to."""
        return self._source.top()

    @contextmanager
    def open_manifest(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a manifest."""
        with self._source.open_manifest(descriptor) as chunks:
            yield chunks

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a blob; it is recorded if the block, which verifies it, ends without an error."""
        self._recorder.started(descriptor)
        with self._source.open_blob(descriptor) as chunks:
            yield self._recorder.tee(descriptor, chunks)
        self._recorder.verified(descriptor)

    def served_by(self, descriptor: Descriptor) -> str | None:
        """Return the server that sent a blob."""
        return self._source.served_by(descriptor)

    def distrust(self, descriptor: Descriptor) -> bool:
        """Do not use the server of a blob again, if there is another one."""
        return isinstance(self._source, Mirrored) and self._source.distrust(descriptor)

    def interrupt(self) -> None:
        """End all transfers."""
        self._source.interrupt()


def _needed(image: ResolvedImage) -> dict[str, Descriptor]:
    """Return the layers that are fetched: of several with one diffID, only the last."""
    distinct = dict(zip(image.config.diff_ids, image.manifest.layers, strict=True))
    return {layer.digest: layer for layer in distinct.values()}


def _index(digest: str, manifest: bytes) -> bytes:
    kind = json.loads(manifest).get("mediaType") or _MANIFEST
    entry = {"mediaType": kind, "digest": digest, "size": len(manifest)}
    return json.dumps({"schemaVersion": 2, "manifests": [entry]}, separators=(",", ":")).encode()


def _fitting(layers: Mapping[str, Descriptor], room: int | None) -> dict[str, Descriptor]:
    """Leave out the largest layers until the others fit, so that few layers are fetched again."""
    if room is None:
        return dict(layers)
    left, keep = room, set[str]()
    for digest, layer in sorted(layers.items(), key=lambda item: item[1].size):
        if layer.size <= left:
            keep.add(digest)
            left -= layer.size
    return {digest: layer for digest, layer in layers.items() if digest in keep}
