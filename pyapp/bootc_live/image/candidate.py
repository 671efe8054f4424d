"""Open a source and find its image, which can then be planned and fetched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from bootc_live.base.log import Recorder
from bootc_live.config.source_spec import AnySpec, ArchiveFile, FixedSpec, Layered, SourceSpec, WebPointer
from bootc_live.image.detached import Beside, Evidence, signatures_beside, signed_source
from bootc_live.image.fetch import fetch_layers
from bootc_live.image.fetch_stream import resolve_stream, stream_candidate
from bootc_live.image.layout_recorder import LayoutRecorder
from bootc_live.image.resolve import Wanted, resolve_image
from bootc_live.image.sink import LayerSink
from bootc_live.image.store.layer_store import LayerStore
from bootc_live.image.trust import TrustVerdict, check_source, check_stream, check_trust
from bootc_live.image.verified import ResolvedImage, VerifiedImage
from bootc_live.source.access import Access
from bootc_live.source.interface import AnySource, LayerCache, Source, StreamSource
from bootc_live.source.pointer import followed
from bootc_live.source.select import open_source


class Candidate(Protocol):
    """An image of an open source. None of its layers has been fetched, unless the source is a stream."""

    @property
    def source(self) -> AnySource:
        """The open source of the image."""

    @property
    def image(self) -> ResolvedImage:
        """The verified manifest and config."""

    @property
    def evidence(self) -> Evidence:
        """What tells who made the image."""

    @property
    def cache(self) -> LayerCache | None:
        """The cache that layers are taken from, if there is one."""

    def fetch(self, sink: LayerSink, blobs: LayoutRecorder | None = None) -> VerifiedImage:
        """Fetch and verify all layers into ``sink``, and record the source's blobs in ``blobs``.

        Raise SourceError, ImageError, RunError and OutOfMemoryError.
        """


@dataclass(frozen=True)
class _BlobCandidate:
    source: Source
    evidence: Evidence
    known: dict[str, bytes]
    store: LayerStore
    recorder: Recorder

    @property
    def image(self) -> ResolvedImage:
        """The verified manifest and config."""
        return self.evidence.image

    @property
    def cache(self) -> LayerCache | None:
        """The cache that layers are taken from, if there is one."""
        return self.store.cache

    def fetch(self, sink: LayerSink, blobs: LayoutRecorder | None = None) -> VerifiedImage:
        source = self.source if blobs is None else blobs.wrap(self.source, self.image, self.known)
        with self.recorder.phase("fetch", "fetching and verifying layers"):
            return fetch_layers(source, self.image, self.store, self.recorder, sink)


@contextmanager
def trusted_candidate(
    spec: AnySpec, access: Access, wanted: Wanted, store: LayerStore, recorder: Recorder
) -> Iterator[tuple[Candidate, TrustVerdict]]:
    """Open a source, find its image, and decide whether it may be used; raise SourceError and ImageError."""
    if isinstance(spec, Layered):
        # A late import: a boot has no such source, and an initramfs not that module.
        from bootc_live.image.layered import layered_candidate

        with layered_candidate(spec, access, wanted, store, recorder) as layered:
            yield layered
        return
    check_source(spec, access.trust, access.pin)
    fixed, wanted = _fixed(spec, access, wanted)
    with candidate(fixed, access, wanted, store, recorder) as found:
        yield found, check_trust(fixed, found.evidence, access.trust, access.pin, recorder.say)


def parts_of(spec: AnySpec) -> int:
    """Return how many parts of a data file a source uses."""
    return 2 if isinstance(spec, Layered) else 1


@contextmanager
def candidate(
    spec: FixedSpec, access: Access, wanted: Wanted, store: LayerStore, recorder: Recorder
) -> Iterator[Candidate]:
    """Open a source and find its image; raise SourceError and ImageError."""
    beside = signatures_beside(spec, access)
    with open_source(spec, access, beside.algorithms) as source:
        warn_if_insecure(source, access, recorder)
        check_stream(source, access.trust, beside)
        if isinstance(source, StreamSource) and isinstance(spec, ArchiveFile) and beside.algorithms:
            with open_source(spec, access) as parts:
                if not isinstance(parts, StreamSource):
                    # Read to judge it, then by its parts: these are what the documents that were judged name by digest.
                    with recorder.phase("resolve", f"reading {source.source_text}"):
                        found = resolve_stream(source, wanted, beside)
                    _report(found.image, recorder)
                    yield _BlobCandidate(parts, found, wanted.known, store, recorder)
                    return
        if isinstance(source, StreamSource):
            # It contains all layers again, in an order that cannot be chosen.
            store.forget_consumed(store.consumed)
            with stream_candidate(source, wanted, store, recorder, beside) as stream:
                _report(stream.image, recorder)
                yield stream
            return
        with recorder.phase("resolve", f"looking up {source.source_text}"):
            found = Evidence(resolve_image(source, wanted), signed_source(source), beside.of_file({}))
        _report(found.image, recorder)
        yield _BlobCandidate(source, found, wanted.known, store, recorder)


@contextmanager
def looked_up(
    spec: SourceSpec, access: Access, recorder: Recorder
) -> Iterator[tuple[AnySource, ResolvedImage, TrustVerdict]]:
    """Open a source, find its image, and check who signed it, without a store for layers.

    Raise SourceError, and ImageError, also if it may not be used.
    """
    check_source(spec, access.trust, access.pin)
    fixed, wanted = _fixed(spec, access, Wanted(pin=access.pin))
    beside = signatures_beside(fixed, access)
    with open_source(fixed, access, beside.algorithms) as source:
        warn_if_insecure(source, access, recorder)
        check_stream(source, access.trust, beside)
        found = resolve(source, wanted, beside)
        yield source, found.image, check_trust(fixed, found, access.trust, access.pin, recorder.say)


def _fixed(spec: SourceSpec, access: Access, wanted: Wanted) -> tuple[FixedSpec, Wanted]:
    """Follow a pointer: nothing but the image that it names is wanted then. Raise SourceError."""
    fixed, pointer = followed(spec, access)
    if pointer is None or wanted.pin is not None:
        return fixed, wanted
    return fixed, replace(wanted, pin=pointer.digest, pinned_by="the pointer")


def resolve(source: AnySource, wanted: Wanted, beside: Beside | None = None) -> Evidence:
    """Find the image of an open source of any kind; raise SourceError and ImageError."""
    beside = beside or Beside()
    if isinstance(source, StreamSource):
        return resolve_stream(source, wanted, beside)
    return Evidence(resolve_image(source, wanted), signed_source(source), beside.of_file({}))


def newest(spec: SourceSpec, access: Access, recorder: Recorder) -> tuple[FixedSpec, str]:
    """Return where to fetch the newest image of a source, and its digest; the archive of a pointer is not opened.

    Raise SourceError, and ImageError, also if it may not be used.
    """
    fixed, pointer = followed(spec, access)
    if pointer is not None:
        if isinstance(spec, WebPointer) and spec.url.startswith("http:"):
            _warn_insecure(spec.source_text, access, recorder)
        return fixed, pointer.digest
    with looked_up(fixed, access, recorder) as (_, image, _verdict):
        return fixed, image.identity


def warn_if_insecure(source: AnySource, access: Access, recorder: Recorder) -> None:
    """Warn about a source that is used without verified TLS."""
    if source.insecure:
        _warn_insecure(source.source_text, access, recorder)


def _warn_insecure(source_text: str, access: Access, recorder: Recorder) -> None:
    effect = "its digest is pinned" if access.pin else "an attacker on the network can choose the image"
    problem = f"INSECURE: the identity of the server of {source_text!r} is NOT checked"
    # An upgrade asks what is newest, and fetches it then.
    if not any(said.startswith(problem) for said in recorder.warnings):
        recorder.warn(f"{problem}, as requested; {effect}")


def _report(image: ResolvedImage, recorder: Recorder) -> None:
    name = image.manifest_digest or f"with the config {image.manifest.config.digest}"
    layers = len(image.manifest.layers)
    recorder.say(f"image {name}, {layers} layer{'s' if layers > 1 else ''}")
