"""Fetch and verify all layers of an image, side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from bootc_live.base.errors import ImageError, RunError
from bootc_live.base.log import Progress, Recorder
from bootc_live.base.memory import available_bytes
from bootc_live.image.resolve import blame
from bootc_live.image.store import LayerStore, Slot
from bootc_live.image.verified import ResolvedImage, VerifiedImage, verified_image, verified_layer
from bootc_live.image.verify import exhaust, verified
from bootc_live.source.descriptor import Descriptor
from bootc_live.source.interface import Source

# Buffers and an inflating program of one worker at their worst; they may take an eighth of what is free.
_WORKER_BYTES = 32 * 2**20
_WORKERS_SHARE = 8
# A server has other clients, too.
_MOST_WORKERS = 8

_Key = tuple[str, Descriptor]


def fetch_layers(source: Source, image: ResolvedImage, store: LayerStore, recorder: Recorder) -> VerifiedImage:
    """Fetch, inflate and verify every layer that the store does not have yet.

    Layers run side by side; one failure ends them all, and what is finished by then stays in the store.
    Raises SourceError, ImageError, RunError and OutOfMemoryError.
    """
    pairs = list(zip(image.config.diff_ids, image.manifest.layers, strict=True))
    # A layer that stands twice, however it is compressed, is fetched once.
    missing = [key for key in dict(pairs).items() if key[0] not in store.layers]
    places = dict(zip(missing, store.slots([layer.size for _, layer in missing]), strict=True))
    progress = Progress(recorder, "fetch", sum(layer.size for _, layer in missing))
    _fetch_all(source, image, store, places, progress)
    return verified_image(image, store.path, [store.layers[diff_id] for diff_id, _ in pairs])


def workers(cores: int, available: int) -> int:
    """Give how many layers to fetch at once, for so many cores and bytes of free memory (0: unknown)."""
    by_memory = available // _WORKERS_SHARE // _WORKER_BYTES if available else cores
    return max(1, min(cores, by_memory, _MOST_WORKERS))


def _fetch_all(
    source: Source, image: ResolvedImage, store: LayerStore, places: dict[_Key, Slot], progress: Progress
) -> None:
    stop = threading.Event()

    def fetch(key: _Key, number: int) -> None:
        diff_id, layer = key
        what = f"layer {number} ({layer.digest}) of {image.typed!r}"
        try:
            with source.open_blob(layer) as chunks:
                checked = verified(_counted(chunks, progress), layer, what)
                algorithm = diff_id.partition(":")[0]
                found, size = _store(store, places[key], checked, layer.size, what, stop, algorithm)
        except ImageError as error:
            blame(error, source.whence(layer))
            raise
        try:
            store.layers[diff_id] = verified_layer(diff_id, found, places[key].offset, size, what)
        except ImageError:
            store.drop(places[key].offset, size)
            raise

    with ThreadPoolExecutor(max_workers=workers(os.cpu_count() or 1, available_bytes())) as pool:
        # The largest first: the last to start should not be the last to end.
        order = sorted(places, key=lambda key: key[1].size, reverse=True)
        numbers = {key: image.config.diff_ids.index(key[0]) for key in places}
        futures = [pool.submit(fetch, key, numbers[key]) for key in order]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            stop.set()
            source.interrupt()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _store(
    store: LayerStore,
    place: Slot,
    checked: Iterator[bytes],
    size: int,
    what: str,
    stop: threading.Event,
    algorithm: str,
) -> tuple[str, int]:
    try:
        written = store.inflate(place, checked, size, what, stop.is_set, algorithm)
    except (ImageError, RunError):
        if not stop.is_set():
            # Wrong bytes make an inflater stumble first; the digest is the better news.
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
