"""The image from the first source that can be used, and what became of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bootc_live.base.errors import AdmissionError, ImageError, RunError, SourceError
from bootc_live.base.log import Recorder
from bootc_live.base.output import one_line
from bootc_live.config.source_spec import SourceSpec
from bootc_live.image.fetch import fetch_layers
from bootc_live.image.fetch_in_order import fetch_in_order, take_all
from bootc_live.image.fetch_stream import fetch_stream, resolve_stream
from bootc_live.image.resolve import Wanted, resolve_image
from bootc_live.image.sink import Takers
from bootc_live.image.store.layer_store import LayerStore, layer_store
from bootc_live.image.verified import ResolvedImage, VerifiedImage
from bootc_live.source.access import Access
from bootc_live.source.interface import AnySource, StreamSource
from bootc_live.source.select import open_source

_NOBODY = Takers()
# One source cannot push the others out of a message about all of them.
_LONGEST_REASON = 1000


@dataclass(frozen=True)
class Attempt:
    """One source that was tried, as typed; ``error`` is why it was not used, None for the one that was."""

    source: str
    error: str | None


@dataclass(frozen=True)
class Acquired:
    """A verified image, and all sources that were tried for it."""

    image: VerifiedImage
    attempts: tuple[Attempt, ...]


def resolve(source: AnySource, wanted: Wanted) -> ResolvedImage:
    """Find the image in a source of any kind; raises SourceError and ImageError."""
    return resolve_stream(source, wanted) if isinstance(source, StreamSource) else resolve_image(source, wanted)


def warn_if_insecure(source: AnySource, access: Access, recorder: Recorder) -> None:
    """Tell loudly of a source that is used without verified TLS."""
    if source.insecure:
        kept = "its digest is pinned" if access.pin else "whoever is on the way can choose the image"
        recorder.warn(f"INSECURE: the identity of the server of {source.typed!r} is NOT checked, as asked for; {kept}")


def acquire(
    specs: Sequence[SourceSpec],
    access: Access,
    path: str,
    recorder: Recorder,
    takers: Takers = _NOBODY,
) -> Acquired:
    """Fetch and verify an image into the new data file ``path`` from the first of the sources that can be used.

    Whatever one source raises is the end of that source alone; layers it finished are used by the next.
    ``takers`` are told of it; where they refuse the image with AdmissionError, the next source has its turn: it may
    hold a smaller one. OutOfMemoryError later on is the end.
    Raises the last source's error, or one that lists all of them.
    """
    if not specs:
        raise ValueError("no sources")
    attempts: list[Attempt] = []
    wanted = Wanted(pin=access.pin)
    with layer_store(path, len(specs)) as store:
        for spec in specs:
            try:
                image = _fetch(spec, access, wanted, store, recorder, takers)
            except (SourceError, ImageError, RunError, AdmissionError) as error:
                attempts.append(Attempt(spec.typed, one_line(error.message, _LONGEST_REASON)))
                if len(specs) == 1:
                    raise
                if len(attempts) == len(specs):
                    raise SourceError(_all_of(attempts), hint=error.hint) from error
                recorder.warn(f"{error.message}; going on with the next source")
                store.next_source()
            else:
                store.keep_only(image.resolved.config.diff_ids)
                return Acquired(image, (*attempts, Attempt(spec.typed, None)))
    raise AssertionError("the last source is used or raises")


def _fetch(
    spec: SourceSpec,
    access: Access,
    wanted: Wanted,
    store: LayerStore,
    recorder: Recorder,
    takers: Takers,
) -> VerifiedImage:
    with open_source(spec, access) as source:
        warn_if_insecure(source, access, recorder)
        if isinstance(source, StreamSource):
            # It comes by once, and which image it holds may be told last.
            store.forget_given_back(store.given_back)
            image = fetch_stream(source, wanted, store, recorder, takers.admit)
            taker = takers.consumer()
            if taker is not None:
                take_all(image, store, taker)
            recorder.say(f"image {_name(image.resolved)}, {len(image.layers)} layers")
            return image
        with recorder.phase("resolve", f"looking up {source.typed}"):
            resolved = resolve_image(source, wanted)
        recorder.say(f"image {_name(resolved)}, {len(resolved.manifest.layers)} layers")
        takers.admit(source, resolved)
        kept = source if takers.blobs is None else takers.blobs.keeping(source, resolved, wanted.known)
        with recorder.phase("fetch", "fetching and verifying layers"):
            taker = takers.consumer()
            if taker is not None:
                return fetch_in_order(kept, resolved, store, recorder, taker)
            if takers.readers is not None:
                takers.readers.keep_only(resolved.config.diff_ids)
            return fetch_layers(kept, resolved, store, recorder, takers.readers)


def _name(image: ResolvedImage) -> str:
    return image.manifest_digest or f"with the config {image.manifest.config.digest}"


def _all_of(attempts: Sequence[Attempt]) -> str:
    listed = "; ".join(f"{number}. {attempt.error}" for number, attempt in enumerate(attempts, 1))
    return f"none of the {len(attempts)} sources can be used: {listed}"
