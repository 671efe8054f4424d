"""Fetch and verify all layers of an image: side by side, or base first for a sink that consumes them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from bootc_live.base.errors import ImageError, OutOfMemoryError, RunError
from bootc_live.base.log import Progress, Recorder
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.image.resolve import blame
from bootc_live.image.sink import LayerPlace, LayerProgress, LayerSink
from bootc_live.image.store.layer_store import LayerStore, Slot
from bootc_live.image.verified import ResolvedImage, VerifiedImage, verified_image, verified_layer
from bootc_live.image.verify import Told, WrongBytesError, exhaust, verified
from bootc_live.source.interface import Mirrored, Source
from bootc_live.system.memory import available_bytes

# Buffers and an inflating program of one worker at their worst; they may take an eighth of what is free.
_WORKER_BYTES = 32 * 2**20
_WORKERS_SHARE = 8
# A server has other clients, too.
_MOST_WORKERS = 8

LayerKey = tuple[str, Descriptor]
"""A layer's diffID, and what the manifest says of it."""


def fetch_layers(
    source: Source, image: ResolvedImage, store: LayerStore, recorder: Recorder, sink: LayerSink
) -> VerifiedImage:
    """Fetch, inflate and verify every layer that neither the sink nor the store has.

    Layers are fetched side by side unless the sink consumes them: then the data file holds nothing of them in the end.
    One failure ends all of them; what is finished by then stays where it is.
    Raise SourceError, ImageError, RunError and OutOfMemoryError.
    """
    done = sink.begin(image)
    store.forget_given_back(image.config.diff_ids[done:])
    fetcher = LayerFetcher.for_missing(source, image, store, recorder)
    if sink.consumes:
        _fetch_in_order(fetcher, sink, done)
    else:
        _fetch_side_by_side(fetcher, sink)
    return verified_image(image, store.path, [store.layers[diff_id] for diff_id in image.config.diff_ids])


def hand_over(image: VerifiedImage, store: LayerStore, sink: LayerSink) -> None:
    """Hand the layers of an image that lies in the store to a sink that consumes them; raise ImageError."""
    diff_ids = image.resolved.config.diff_ids
    done = sink.begin(image.resolved)
    for diff_id in set(diff_ids[:done]) - set(diff_ids[done:]):
        # The stream brought it once more.
        store.drop(store.layers[diff_id].offset, store.layers[diff_id].size)
        store.given_back.add(diff_id)
    for number in range(done, len(diff_ids)):
        _hand_over_layer(image.resolved, number, store, sink)


def workers(cores: int, available: int) -> int:
    """Give how many layers to fetch at once, for so many cores and bytes of free memory (0: unknown)."""
    by_memory = available // _WORKERS_SHARE // _WORKER_BYTES if available else cores
    return max(1, min(cores, by_memory, _MOST_WORKERS))


@dataclass(frozen=True)
class LayerFetcher:
    """Fetches single layers of an image from a source into places of a store; ``stop`` ends all of them.

    ``wrong`` tells that a place gave wrong bytes, which may have taken the memory that others needed.
    """

    source: Source
    image: ResolvedImage
    store: LayerStore
    places: Mapping[LayerKey, Slot]
    progress: Progress
    warn: Callable[[str], None]
    stop: threading.Event = field(default_factory=threading.Event)
    wrong: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def for_missing(cls, source: Source, image: ResolvedImage, store: LayerStore, recorder: Recorder) -> LayerFetcher:
        """Give one for the layers that the store does not have yet."""
        # A layer that stands twice, however it is compressed, is fetched once.
        distinct = dict(zip(image.config.diff_ids, image.manifest.layers, strict=True))
        missing = [key for key in distinct.items() if key[0] not in store.layers]
        places = dict(zip(missing, store.slots([layer.size for _, layer in missing]), strict=True))
        progress = Progress(recorder, "fetch", sum(layer.size for _, layer in missing))
        return cls(source, image, store, places, progress, recorder.warn)

    def what(self, key: LayerKey) -> str:
        """Name a layer for messages."""
        return f"layer {self.image.config.diff_ids.index(key[0])} ({key[1].digest}) of {self.image.typed!r}"

    def insist(self, key: LayerKey, attempt: Callable[[], None]) -> None:
        """Make attempts for a layer as long as its bytes are wrong and there is another place to have them from."""
        while True:
            try:
                attempt()
            except WrongBytesError as error:
                if not isinstance(self.source, Mirrored) or not self.source.distrust(key[1]):
                    raise
                self.wrong.set()
                self.warn(f"{error.message}; continuing without that server")
            else:
                return

    def fetch(self, key: LayerKey, progress: LayerProgress) -> None:
        """Fetch, inflate and verify one layer, and tell ``progress``; raise as ``fetch_layers``."""
        diff_id, layer = key
        what, place = self.what(key), self.places[key]
        try:
            with self.source.open_blob(layer) as chunks:
                checked = Told(verified(_counted(chunks, self.progress), layer, what))
                found, size = _store(
                    self.store, place, checked, layer.size, what, self.stop, diff_id.partition(":")[0], progress
                )
        except ImageError as error:
            blame(error, self.source.served_by(layer))
            raise
        try:
            self.store.layers[diff_id] = verified_layer(diff_id, found, place.offset, size, what)
        except ImageError:
            self.store.drop(place.offset, size)
            raise
        progress.end(size)


def _fetch_side_by_side(fetcher: LayerFetcher, sink: LayerSink) -> None:
    starved: dict[LayerKey, OutOfMemoryError] = {}

    def attempt(key: LayerKey) -> None:
        with sink.layer(LayerPlace(key[0], fetcher.places[key].offset, fetcher.what(key))) as progress:
            fetcher.fetch(key, progress)

    def fetch(key: LayerKey) -> None:
        if starved:
            starved[key] = next(iter(starved.values()))
            return
        try:
            fetcher.insist(key, lambda: attempt(key))
        except OutOfMemoryError as error:
            starved[key] = error

    with ThreadPoolExecutor(max_workers=workers(len(os.sched_getaffinity(0)), available_bytes())) as pool:
        # The largest first: the last to start should not be the last to end.
        order = sorted(fetcher.places, key=lambda key: key[1].size, reverse=True)
        try:
            while order:
                futures = [pool.submit(fetch, key) for key in order]
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                if starved and not fetcher.wrong.is_set():
                    raise next(iter(starved.values()))
                # Wrong bytes took memory at the same time, and are gone: there may be room now.
                order = list(starved)
                fetcher.store.has_room()
                fetcher.wrong.clear()
                starved.clear()
        except BaseException:
            fetcher.stop.set()
            fetcher.source.interrupt()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _fetch_in_order(fetcher: LayerFetcher, sink: LayerSink, done: int) -> None:
    image, store = fetcher.image, fetcher.store
    keys = {key[0]: key for key in fetcher.places}

    def attempt(key: LayerKey, number: int) -> None:
        place = LayerPlace(key[0], fetcher.places[key].offset, fetcher.what(key), _comes_again(image, number))
        with _given_back(store, place), sink.layer(place) as progress:
            fetcher.fetch(key, progress)

    try:
        for number, diff_id in enumerate(image.config.diff_ids[done:], done):
            if diff_id in store.layers:
                _hand_over_layer(image, number, store, sink)
            else:
                fetcher.insist(keys[diff_id], partial(attempt, keys[diff_id], number))
    except BaseException:
        # A source may wait for a reader that is gone.
        fetcher.stop.set()
        fetcher.source.interrupt()
        raise


def _hand_over_layer(image: ResolvedImage, number: int, store: LayerStore, sink: LayerSink) -> None:
    layer = store.layers[image.config.diff_ids[number]]
    what = f"layer {number} ({layer.diff_id}) of {image.typed!r}"
    place = LayerPlace(image.config.diff_ids[number], layer.offset, what, _comes_again(image, number))
    with _given_back(store, place), sink.layer(place) as progress:
        progress.advance(layer.size)
        progress.end(layer.size)


@contextmanager
def _given_back(store: LayerStore, place: LayerPlace) -> Iterator[None]:
    """Note that the block consumes a layer's bytes; a block that fails may have consumed some of them."""
    try:
        yield
    except BaseException:
        store.layers.pop(place.diff_id, None)
        raise
    if not place.keep:
        store.given_back.add(place.diff_id)


def _comes_again(image: ResolvedImage, number: int) -> bool:
    return image.config.diff_ids[number] in image.config.diff_ids[number + 1 :]


def _store(
    store: LayerStore,
    place: Slot,
    checked: Iterator[bytes],
    size: int,
    what: str,
    stop: threading.Event,
    algorithm: str,
    progress: LayerProgress,
) -> tuple[str, int]:
    try:
        written = store.inflate(place, checked, size, what, stop.is_set, algorithm, progress)
    except (ImageError, RunError, OutOfMemoryError):
        if not stop.is_set():
            # Wrong bytes make an inflater stumble, or fill memory, first; the digest is the better news.
            exhaust(checked)
        raise
    try:
        exhaust(checked)
    except BaseException:
        store.drop(place.offset, written[1])
        raise
    return written


def _counted(chunks: Iterator[bytes], progress: Progress) -> Iterator[bytes]:
    for chunk in chunks:
        progress.add(len(chunk))
        yield chunk
