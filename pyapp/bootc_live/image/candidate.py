"""From a source to an image that is known and can be fetched: what a plan is made for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from bootc_live.base.log import Recorder
from bootc_live.config.source_spec import SourceSpec
from bootc_live.image.fetch import fetch_layers
from bootc_live.image.fetch_stream import resolve_stream, stream_candidate
from bootc_live.image.layout_recorder import LayoutRecorder
from bootc_live.image.resolve import Wanted, resolve_image
from bootc_live.image.sink import LayerSink
from bootc_live.image.store.layer_store import LayerStore
from bootc_live.image.verified import ResolvedImage, VerifiedImage
from bootc_live.source.access import Access
from bootc_live.source.interface import AnySource, Source, StreamSource
from bootc_live.source.select import open_source


class Candidate(Protocol):
    """An image of an open source. None of its layers has been fetched, unless the source is a stream."""

    @property
    def source(self) -> AnySource:
        """Where it is from."""

    @property
    def image(self) -> ResolvedImage:
        """Its manifest and config, verified."""

    def fetch(self, sink: LayerSink, blobs: LayoutRecorder | None = None) -> VerifiedImage:
        """Fetch and verify all layers into ``sink``; ``blobs`` also gets them as they come, if the source has blobs.

        Raise SourceError, ImageError, RunError and OutOfMemoryError.
        """


@dataclass(frozen=True)
class _BlobCandidate:
    source: Source
    image: ResolvedImage
    known: dict[str, bytes]
    store: LayerStore
    recorder: Recorder

    def fetch(self, sink: LayerSink, blobs: LayoutRecorder | None = None) -> VerifiedImage:
        source = self.source if blobs is None else blobs.wrap(self.source, self.image, self.known)
        with self.recorder.phase("fetch", "fetching and verifying layers"):
            return fetch_layers(source, self.image, self.store, self.recorder, sink)


@contextmanager
def candidate(
    spec: SourceSpec, access: Access, wanted: Wanted, store: LayerStore, recorder: Recorder
) -> Iterator[Candidate]:
    """Open a source and find the image in it; raise SourceError and ImageError."""
    with open_source(spec, access) as source:
        warn_if_insecure(source, access, recorder)
        if isinstance(source, StreamSource):
            # It is read once, so its layers come again.
            store.forget_given_back(store.given_back)
            with stream_candidate(source, wanted, store, recorder) as stream:
                _tell(stream.image, recorder)
                yield stream
            return
        with recorder.phase("resolve", f"looking up {source.typed}"):
            image = resolve_image(source, wanted)
        _tell(image, recorder)
        yield _BlobCandidate(source, image, wanted.known, store, recorder)


@contextmanager
def looked_up(spec: SourceSpec, access: Access, recorder: Recorder) -> Iterator[tuple[AnySource, ResolvedImage]]:
    """Open a source and find the image in it, for a look without fetching; raise SourceError and ImageError."""
    with open_source(spec, access) as source:
        warn_if_insecure(source, access, recorder)
        yield source, resolve(source, Wanted(pin=access.pin))


def resolve(source: AnySource, wanted: Wanted) -> ResolvedImage:
    """Find the image in an open source of any kind; raise SourceError and ImageError."""
    return resolve_stream(source, wanted) if isinstance(source, StreamSource) else resolve_image(source, wanted)


def warn_if_insecure(source: AnySource, access: Access, recorder: Recorder) -> None:
    """Warn of a source that is used without verified TLS."""
    if source.insecure:
        kept = "its digest is pinned" if access.pin else "whoever is on the way can choose the image"
        recorder.warn(f"INSECURE: the identity of the server of {source.typed!r} is NOT checked, as asked for; {kept}")


def _tell(image: ResolvedImage, recorder: Recorder) -> None:
    name = image.manifest_digest or f"with the config {image.manifest.config.digest}"
    recorder.say(f"image {name}, {len(image.manifest.layers)} layers")
