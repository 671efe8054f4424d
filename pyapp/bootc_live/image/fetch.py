"""Fetch and verify all layers of an image: in parallel, or in order for a sink that consumes them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from bootc_live.base.errors import ImageError, OutOfMemoryError, RunError, about
from bootc_live.base.log import Progress, Recorder
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.image.resolve import from_server
from bootc_live.image.sink import LayerPlace, LayerProgress, LayerSink
from bootc_live.image.store.cached import DamagedCopyError, copied
from bootc_live.image.store.layer_store import LayerStore, Slot
from bootc_live.image.verified import ResolvedImage, VerifiedImage, verified_image, verified_layer
from bootc_live.image.verify import RepeatingError, WrongBytesError, exhaust, verified
from bootc_live.source.interface import Mirrored, Source
from bootc_live.system.memory import available_bytes

# The most that the buffers and the program of one worker use; all workers may use an eighth of the free memory.
_WORKER_BYTES = 32 * 2**20
_WORKERS_SHARE = 8
# Servers have other clients, too.
_MOST_WORKERS = 8

LayerKey = tuple[str, Descriptor]
"""A layer's diffID and its descriptor in the manifest."""


def fetch_layers(
    source: Source, image: ResolvedImage, store: LayerStore, recorder: Recorder, sink: LayerSink
) -> VerifiedImage:
    """Fetch, inflate and verify every layer that neither the sink nor the store has.

    Layers are fetched in parallel, or in order if the sink consumes them; consumed layers do not stay in the data file.
    Those in the cache are copied from there, or placed if nothing consumes them; the others are put into it when the
    image is complete.
    A failure ends all transfers; finished layers stay in the store.
    Raise SourceError, ImageError, RunError and OutOfMemoryError.
    """
    done = sink.begin(image)
    store.forget_consumed(image.config.diff_ids[done:])
    at_once = 1 if sink.consumes else workers(len(os.sched_getaffinity(0)), available_bytes())
    fetcher = LayerFetcher.for_missing(source, image, store, recorder, at_once)
    if sink.consumes:
        _fetch_in_order(fetcher, sink, done)
    else:
        _fetch_side_by_side(fetcher, sink)
    store.fill_cache(diff_id for diff_id, _ in fetcher.places)
    return verified_image(image, store.path, [store.layers[diff_id] for diff_id in image.config.diff_ids])


def hand_over(image: VerifiedImage, store: LayerStore, sink: LayerSink) -> None:
    """Pass the layers of an image in the store to a sink that consumes them; raise ImageError."""
    diff_ids = image.resolved.config.diff_ids
    done = sink.begin(image.resolved)
    for diff_id in set(diff_ids[:done]) - set(diff_ids[done:]):
        # The stream contained it again.
        store.drop(store.layers[diff_id].offset, store.layers[diff_id].size)
        store.consumed.add(diff_id)
    for number in range(done, len(diff_ids)):
        _hand_over_layer(image.resolved, number, store, sink)


def workers(cores: int, available: int) -> int:
    """Return how many layers to fetch in parallel, by the cores and the bytes of free memory (0: unknown)."""
    by_memory = available // _WORKERS_SHARE // _WORKER_BYTES if available else cores
    return max(1, min(cores, by_memory, _MOST_WORKERS))


@dataclass(frozen=True)
class LayerFetcher:
    """Fetches layers of an image into the slots of a store, ``at_once`` in parallel; ``stop`` ends all transfers.

    ``wrong`` is set if a server sent wrong bytes, which may have used the memory that other layers needed.
    """

    source: Source
    image: ResolvedImage
    store: LayerStore
    places: Mapping[LayerKey, Slot]
    progress: Progress
    warn: Callable[[str], None]
    at_once: int = 1
    stop: threading.Event = field(default_factory=threading.Event)
    wrong: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def for_missing(
        cls, source: Source, image: ResolvedImage, store: LayerStore, recorder: Recorder, at_once: int
    ) -> LayerFetcher:
        """Return a fetcher for the layers that are not in the store."""
        # A layer that occurs twice is fetched once, even if it is compressed differently.
        distinct = dict(zip(image.config.diff_ids, image.manifest.layers, strict=True))
        missing = [key for key in distinct.items() if key[0] not in store.layers]
        places = dict(zip(missing, store.slots([layer.size for _, layer in missing]), strict=True))
        progress = Progress(recorder, "fetch", sum(layer.size for _, layer in missing))
        return cls(source, image, store, places, progress, recorder.warn, at_once)

    def name(self, key: LayerKey) -> str:
        """Return the name of a layer in messages, with the server that sent it."""
        diff_id, layer = key
        name = f"layer {self.image.config.diff_ids.index(diff_id)} ({layer.digest}) of {self.image.source_text!r}"
        return from_server(name, self.source.served_by(layer))

    def retry_elsewhere(self, key: LayerKey, attempt: Callable[[], None]) -> None:
        """Try again while a layer's bytes are wrong and another place has it."""
        while True:
            try:
                attempt()
            except DamagedCopyError as error:
                self.wrong.set()
                self.warn(f"{error.message}; it was removed, and the layer is fetched again")
            except WrongBytesError as error:
                if not isinstance(self.source, Mirrored) or not self.source.distrust(key[1]):
                    raise
                self.wrong.set()
                self.warn(f"{error.message}; continuing without that server")
            else:
                return

    def fetch(self, key: LayerKey, progress: LayerProgress) -> None:
        """Copy one layer from the cache, or fetch and inflate it, and verify it; report ``progress``.

        Raise as ``fetch_layers``.
        """
        diff_id, layer = key
        place = self.places[key]
        size = copied(self.store, diff_id, place, self.stop.is_set, progress)
        if size is not None:
            self.progress.add(layer.size)
        else:
            size = self._fetch(diff_id, layer, place, progress)
        progress.end(size)

    def _fetch(self, diff_id: str, layer: Descriptor, place: Slot, progress: LayerProgress) -> int:
        with self.source.open_blob(layer) as chunks:
            checked = RepeatingError(verified(_counted(chunks, self.progress), layer))
            algorithm, stopped = diff_id.partition(":")[0], self.stop.is_set
            inflate = partial(self.store.inflate, place, checked, stopped, algorithm, progress, self._decoders())
            found, size = _store(self.store, place, checked, stopped, inflate)
        try:
            self.store.layers[diff_id] = verified_layer(diff_id, found, place.offset, size)
        except ImageError:
            self.store.drop(place.offset, size)
            raise
        return size

    def _decoders(self) -> int:
        """Return how many processes may decode one layer while others are fetched beside it."""
        left = sum(diff_id not in self.store.layers for diff_id, _ in self.places)
        return max(1, len(os.sched_getaffinity(0)) // min(self.at_once, left))


def _fetch_side_by_side(fetcher: LayerFetcher, sink: LayerSink) -> None:
    starved: dict[LayerKey, OutOfMemoryError] = {}

    def attempt(key: LayerKey) -> None:
        place = LayerPlace(key[0], fetcher.places[key].offset)
        with about(partial(fetcher.name, key)), sink.layer(place) as progress:
            fetcher.fetch(key, progress)

    def fetch(key: LayerKey) -> None:
        if starved:
            starved[key] = next(iter(starved.values()))
            return
        try:
            fetcher.retry_elsewhere(key, lambda: attempt(key))
        except OutOfMemoryError as error:
            starved[key] = error

    known = _place_known(fetcher, sink)
    with ThreadPoolExecutor(max_workers=fetcher.at_once) as pool:
        # The base first, so that layers can be merged while others arrive; then the largest, so that none of them is
        # still transferred when all others are done.
        base = fetcher.image.config.diff_ids[:1]
        order = sorted(fetcher.places.keys() - known, key=lambda key: (key[0] not in base, -key[1].size))
        try:
            while order:
                futures = [pool.submit(fetch, key) for key in order]
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                if starved and not fetcher.wrong.is_set():
                    raise next(iter(starved.values()))
                # Wrong bytes used memory at the same time and have been removed, so there may be space now.
                order = list(starved)
                fetcher.wrong.clear()
                starved.clear()
        except BaseException:
            fetcher.stop.set()
            fetcher.source.interrupt()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _place_known(fetcher: LayerFetcher, sink: LayerSink) -> set[LayerKey]:
    """Place the layers of the cache that need not be verified, and return them; raise OutOfMemoryError.

    It takes little time, and many short calls: threads beside it would hold it up.
    """
    known = set[LayerKey]()
    for key, slot in fetcher.places.items():
        with about(partial(fetcher.name, key)):
            if fetcher.store.place(key[0], slot) is not None:
                known.add(key)
                fetcher.progress.add(key[1].size)
    for key in known:
        layer = fetcher.store.layers[key[0]]
        place = LayerPlace(layer.diff_id, layer.offset, whole=layer.size)
        with about(partial(fetcher.name, key)), sink.layer(place) as progress:
            progress.end(layer.size)
    return known


def _fetch_in_order(fetcher: LayerFetcher, sink: LayerSink, done: int) -> None:
    image, store = fetcher.image, fetcher.store
    keys = {key[0]: key for key in fetcher.places}

    def attempt(key: LayerKey, number: int) -> None:
        place = LayerPlace(key[0], fetcher.places[key].offset, _occurs_again(image, number))
        with about(partial(fetcher.name, key)), _consumed(store, place), sink.layer(place) as progress:
            fetcher.fetch(key, progress)

    try:
        for number, diff_id in enumerate(image.config.diff_ids[done:], done):
            if diff_id in store.layers:
                _hand_over_layer(image, number, store, sink)
            else:
                fetcher.retry_elsewhere(keys[diff_id], partial(attempt, keys[diff_id], number))
    except BaseException:
        # The source may wait for a reader that has ended.
        fetcher.stop.set()
        fetcher.source.interrupt()
        raise


def _hand_over_layer(image: ResolvedImage, number: int, store: LayerStore, sink: LayerSink) -> None:
    layer = store.layers[image.config.diff_ids[number]]
    place = LayerPlace(image.config.diff_ids[number], layer.offset, _occurs_again(image, number))
    name = f"layer {number} ({layer.diff_id}) of {image.source_text!r}"
    with about(name), _consumed(store, place), sink.layer(place) as progress:
        progress.advance(layer.size)
        progress.end(layer.size)


@contextmanager
def _consumed(store: LayerStore, place: LayerPlace) -> Iterator[None]:
    """Record that the block consumes a layer; a block that fails may have consumed a part of it."""
    try:
        yield
    except BaseException:
        store.layers.pop(place.diff_id, None)
        raise
    if not place.keep:
        store.consumed.add(place.diff_id)


def _occurs_again(image: ResolvedImage, number: int) -> bool:
    return image.config.diff_ids[number] in image.config.diff_ids[number + 1 :]


def _store(
    store: LayerStore,
    place: Slot,
    checked: Iterator[bytes],
    stopped: Callable[[], bool],
    inflate: Callable[[], tuple[str, int]],
) -> tuple[str, int]:
    try:
        written = inflate()
    except (ImageError, RunError, OutOfMemoryError):
        if not stopped():
            # Wrong bytes may first fail to inflate, or fill memory, but a wrong digest is the better message.
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
