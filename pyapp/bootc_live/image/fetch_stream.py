"""Fetch an image from an archive that can be read only once, with its members in any order.

Layers may precede the documents that name them. So each possible layer is inflated into the store, its digest and
diffID are computed on the way, and it is kept if the image needs it.

The search for the image requests one document after the other; each request reads the archive up to that document.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bootc_live.base.errors import (
    AdmissionError,
    BootcLiveError,
    ImageError,
    OutOfMemoryError,
    RunError,
    SourceError,
    about,
)
from bootc_live.base.log import Progress, Recorder
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.formats.oci.manifest import MANIFEST_LIMIT, Manifest, parse_config
from bootc_live.formats.oci.platform import check
from bootc_live.image.detached import Beside, Evidence
from bootc_live.image.fetch import hand_over
from bootc_live.image.layout_recorder import LayoutRecorder
from bootc_live.image.resolve import Wanted, resolve_image
from bootc_live.image.sink import LayerSink
from bootc_live.image.store.layer_store import LayerStore
from bootc_live.image.verified import (
    ResolvedImage,
    VerifiedImage,
    VerifiedLayer,
    resolved_image,
    verified_image,
    verified_layer,
)
from bootc_live.image.verify import digest_of, exhaust
from bootc_live.source.archive.docker import MANIFEST, TITLE, docker_image
from bootc_live.source.archive.files import MemoryFiles
from bootc_live.source.archive.layout import LayoutSource, blob_name
from bootc_live.source.interface import Hashed, Member, StreamSource

_INDEX = "index.json"
# The limit for all manifests and configs of an archive together.
_MOST_SMALL = 16 * MANIFEST_LIMIT
_HINT = "make the archive again, for example with: skopeo copy SOURCE oci-archive:FILE.oci:latest"


@dataclass(frozen=True)
class _Plan:
    """The image, and the member names of its layers, base first."""

    image: ResolvedImage
    names: tuple[str, ...]


class _Documents(MemoryFiles):
    """The JSON documents of an archive by name; a request for one reads the archive up to it.

    ``others`` is called with every other member on the way. ``sizes`` contains the sizes of all members so far.
    """

    def __init__(self, members: Iterator[Member], others: Callable[[Member], None]) -> None:
        self.content: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}
        super().__init__(self.content)
        self._members = members
        self._others = others
        self._left = _MOST_SMALL

    def size(self, name: str) -> int | None:
        """Return a document's size in bytes, or None if the archive has no such document."""
        while name not in self.content and (member := next(self._members, None)) is not None:
            self._arrive(member)
        return super().size(name)

    def read_all(self) -> None:
        """Read the archive to its end."""
        for member in self._members:
            self._arrive(member)

    def _arrive(self, member: Member) -> None:
        self.sizes[member.name] = member.size
        first = next(member.chunks, b"")
        chunks = itertools.chain([first], member.chunks)
        # ``_assemble`` finds a layer that looks like a document.
        if first.lstrip()[:1] in (b"{", b"[") and member.size <= min(MANIFEST_LIMIT, self._left):
            self._left -= member.size
            self.content[member.name] = b"".join(chunks)
        else:
            self._others(Member(member.name, member.size, chunks))


def _find_image(source: StreamSource, wanted: Wanted, documents: _Documents) -> _Plan:
    """Return the image, reading no more of the archive than necessary; raise SourceError and ImageError."""
    if not source.docker and documents.size(_INDEX) is not None:
        layout = LayoutSource(documents, source.source_text, source.label, insecure=source.insecure)
        image = resolve_image(layout, wanted)
        return _Plan(image, tuple(blob_name(layer.digest) for layer in image.manifest.layers))
    if documents.size(MANIFEST) is not None:
        return _find_docker_image(source, wanted, documents)
    raise SourceError(
        f"{source.source_text!r} is neither an OCI archive nor a docker-archive: it has no {_INDEX}", hint=_HINT
    )


def _find_docker_image(source: StreamSource, wanted: Wanted, documents: _Documents) -> _Plan:
    source_text = source.source_text
    image = docker_image(source_text, documents.content[MANIFEST], source.label)
    if documents.size(image.config) is None:
        raise SourceError(f"{source_text!r} does not contain {image.config!r}, which its {MANIFEST} names", hint=_HINT)
    content = documents.content[image.config]
    wanted.check_pin(source_text, content)
    config = Descriptor("", digest_of(content), len(content))
    with about(f"the image config {image.config!r} of {source_text!r}"):
        diff_ids = parse_config(content, len(image.layers)).diff_ids
    layers = [
        Descriptor("", diff_id, documents.sizes.get(name) or source.size_of(name) or 0, annotations={TITLE: name})
        for diff_id, name in zip(diff_ids, image.layers, strict=True)
    ]
    resolved = resolved_image(
        source_text, Manifest(config, tuple(layers)), content, insecure=source.insecure, digests=()
    )
    with about(repr(source_text)):
        check(resolved.config.platform, wanted.platform)
    return _Plan(resolved, image.layers)


def resolve_stream(source: StreamSource, wanted: Wanted, beside: Beside) -> Evidence:
    """Find the image, reading no more of the archive than necessary; raise SourceError and ImageError."""
    with source.members() as members:
        documents = _Documents(members, others=lambda _member: None)
        return _evidence(source, _find_image(source, wanted, documents).image, documents, beside)


def _evidence(source: StreamSource, image: ResolvedImage, documents: _Documents, beside: Beside) -> Evidence:
    """Return what tells who made the image; an archive whose file is hashed is read to its end."""
    if not isinstance(source, Hashed) or not source.hashes:
        return Evidence(image, None, beside.of_file({}))
    documents.read_all()
    layout = LayoutSource(documents, source.source_text, source.label) if _INDEX in documents.content else None
    return Evidence(image, layout, beside.of_file(source.file_digests()))


@dataclass(frozen=True)
class StreamCandidate:
    """An archive that was read until its image was known. Use ``stream_candidate``."""

    source: StreamSource
    evidence: Evidence
    _plan: _Plan
    _members: Iterator[Member]
    _documents: _Documents
    _layers: _Layers

    @property
    def image(self) -> ResolvedImage:
        """The verified manifest and config."""
        return self.evidence.image

    @property
    def cache(self) -> None:
        """None: the archive has all layers, and comes as a whole."""
        return

    def fetch(self, sink: LayerSink, blobs: LayoutRecorder | None = None) -> VerifiedImage:  # noqa: ARG002
        """Put the image's layers into the store, then pass them to ``sink``; there are no blobs to record.

        Raise SourceError, ImageError, RunError and OutOfMemoryError.
        """
        _read_on(self._plan, self._members, self._documents, self._layers)
        image = _assemble(self._plan, self._documents, self._layers)
        store = self._layers.store
        store.keep_only(image.resolved.config.diff_ids)
        if sink.consumes:
            hand_over(image, store, sink)
        return image


@contextmanager
def stream_candidate(
    source: StreamSource, wanted: Wanted, store: LayerStore, recorder: Recorder, beside: Beside
) -> Iterator[StreamCandidate]:
    """Read an archive until its image is known; raise as ``StreamCandidate.fetch``.

    Earlier layers are then in the store: most tools write the manifest somewhere between the blobs, and index.json,
    which names it, at the end. An archive whose file is hashed is read to its end: nothing of it counts before.
    """
    with recorder.phase("fetch", "reading the archive and verifying layers"), source.members() as members:
        progress = Progress(recorder, "fetch", 0)
        layers = _Layers(source.source_text, store)
        counted = (_counted(member, progress) for member in members)
        needed: set[str] | None = None

        def place(member: Member) -> None:
            if needed is None or member.name in needed:
                layers.place(member)

        documents = _Documents(counted, others=place)
        try:
            plan = _find_image(source, wanted, documents)
            needed = set(plan.names)
            evidence = _evidence(source, plan.image, documents, beside)
            yield StreamCandidate(source, evidence, plan, counted, documents, layers)
        except BaseException:
            # A thread that waits for bytes would block the end of the program.
            source.interrupt()
            raise


def _read_on(plan: _Plan, members: Iterator[Member], documents: _Documents, layers: _Layers) -> None:
    """Put the remaining layers into the store, reading no more of the archive than necessary."""
    missing = list(zip(plan.image.config.diff_ids, plan.names, strict=True))
    needed: dict[str, list[str]] = {}
    for diff_id, name in missing:
        needed.setdefault(name, []).append(diff_id)
    while missing:
        diff_id, name = missing[-1]
        if layers.has(diff_id, name) or name in documents.content:
            missing.pop()
            continue
        member = next(members, None)
        if member is None:
            break
        if not all(layers.has(diff_id, member.name) for diff_id in needed.get(member.name, ())):
            layers.place(member)


@dataclass(frozen=True)
class _Layers:
    """The members that were put into the store as layers, by name, and the errors of others."""

    source_text: str
    store: LayerStore
    placed: dict[str, VerifiedLayer] = field(default_factory=dict)
    wrong: dict[str, BootcLiveError] = field(default_factory=dict)

    def has(self, diff_id: str, name: str) -> bool:
        """Return whether a layer was read, under its own or another name."""
        return name in self.placed or diff_id in self.store.layers

    def place(self, member: Member) -> None:
        """Inflate a member into the store; its errors matter only if the image needs it."""
        name, store = member.name, self.store
        what = f"{name!r} of {self.source_text!r}"
        named = _digest_in(name)
        hasher = hashlib.new(named.partition(":")[0] if named else "sha256")
        hashed = _hashed(member.chunks, hasher)
        slot = store.rest()
        try:
            with about(what):
                found, size = store.inflate(slot, hashed, lambda: False, most=len(os.sched_getaffinity(0)))
                exhaust(hashed)
        except OutOfMemoryError as error:
            # Without a digest in its name, the member may not belong to the image, so the next source is tried.
            self.wrong[name] = error if named else AdmissionError(error.message, hint=error.hint)
            exhaust(hashed)
        except (ImageError, RunError) as error:
            self.wrong[name] = error
            exhaust(hashed)
        else:
            self._keep(name, verified_layer(found, found, slot.offset, size))
        digest = f"{hasher.name}:{hasher.hexdigest()}"
        if named is not None and digest != named:
            self.wrong[name] = ImageError(f"{what} has the digest {digest}, it must be {named}", hint=_HINT)

    def _keep(self, name: str, layer: VerifiedLayer) -> None:
        """Keep a member by its digest: even if this archive fails, the next source may need it."""
        kept = self.store.layers.setdefault(layer.diff_id, layer)
        if kept is not layer:
            self.store.drop(layer.offset, layer.size)
        self.placed[name] = kept


def _assemble(plan: _Plan, documents: _Documents, layers: _Layers) -> VerifiedImage:
    source_text, store = layers.source_text, layers.store
    pairs = list(zip(plan.image.config.diff_ids, plan.names, strict=True))
    for number, (diff_id, name) in enumerate(pairs):
        if name in documents.content and not layers.has(diff_id, name):
            content = documents.content[name]
            layers.place(Member(name, len(content), iter([content])))
        if name in layers.wrong:
            raise layers.wrong[name]
        if diff_id in store.layers:
            continue
        if name not in layers.placed:
            raise SourceError(f"{source_text!r} does not contain {name!r}, a layer of its image", hint=_HINT)
        placed = layers.placed[name]
        found = store.digest(placed, diff_id.partition(":")[0])
        with about(f"layer {number} ({name}) of {source_text!r}"):
            store.layers[diff_id] = verified_layer(diff_id, found, placed.offset, placed.size)
    return verified_image(plan.image, store.path, [store.layers[diff_id] for diff_id, _ in pairs])


def _counted(member: Member, progress: Progress) -> Member:
    def counted() -> Iterator[bytes]:
        for chunk in member.chunks:
            progress.add(len(chunk))
            yield chunk

    return Member(member.name, member.size, counted())


def _hashed(chunks: Iterator[bytes], hasher: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        hasher.update(chunk)
        yield chunk


def _digest_in(name: str) -> str | None:
    """Return the digest in a blob's name, or None (image-layout.md, blobs)."""
    parts = name.split("/")
    if len(parts) == 3 and parts[0] == "blobs" and parts[1] in ("sha256", "sha512"):
        return f"{parts[1]}:{parts[2]}"
    return None
