"""Fetch the layers of an image one after the other, base first, for a consumer that takes each as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bootc_live.base.log import Recorder
from bootc_live.image.fetch import LayerFetcher, LayerKey
from bootc_live.image.sink import LayerConsumer
from bootc_live.image.store.layer_store import LayerStore
from bootc_live.image.verified import ResolvedImage, VerifiedImage, verified_image
from bootc_live.source.interface import Source


def fetch_in_order(
    source: Source, image: ResolvedImage, store: LayerStore, recorder: Recorder, consumer: LayerConsumer
) -> VerifiedImage:
    """Fetch and verify every layer that neither the consumer nor the store has; give the image.

    The data file holds nothing of it in the end: the consumer has all. What another source finished is not fetched
    again, as long as it is the same image. Raises SourceError, ImageError, RunError and OutOfMemoryError.
    """
    _continue(image, store, consumer)
    fetcher = LayerFetcher.for_missing(source, image, store, recorder)
    keys = list(zip(image.config.diff_ids, image.manifest.layers, strict=True))
    try:
        for number in range(len(consumer.taken), len(keys)):
            diff_id, descriptor = keys[number]
            key = next((key for key in fetcher.places if key[0] == diff_id), (diff_id, descriptor))
            if diff_id in store.layers:
                _take(image, number, store, consumer)
                continue
            fetcher.insist(key, partial(_attempt, fetcher, key, consumer, keep=_comes_again(image, number)))
    except BaseException:
        # A source may wait for a reader that is no more.
        fetcher.stop.set()
        source.interrupt()
        raise
    return verified_image(image, store.path, [store.layers[diff_id] for diff_id in image.config.diff_ids])


def _attempt(fetcher: LayerFetcher, key: LayerKey, consumer: LayerConsumer, *, keep: bool) -> None:
    with (
        _given_back(fetcher.store, key[0], keep=keep),
        consumer.layer(key[0], fetcher.places[key].offset, fetcher.what(key), keep=keep) as tap,
    ):
        fetcher.fetch(key, tap)


def take_all(image: VerifiedImage, store: LayerStore, consumer: LayerConsumer) -> None:
    """Hand the layers of an image that lies in the store to a consumer; raises ImageError."""
    if consumer.taken:
        # The stream brought all of them again.
        consumer.restart()
    for number in range(len(image.layers)):
        _take(image.resolved, number, store, consumer)


def _continue(image: ResolvedImage, store: LayerStore, consumer: LayerConsumer) -> None:
    taken = consumer.taken
    if taken != image.config.diff_ids[: len(taken)]:
        consumer.restart()
        taken = ()
    store.forget_given_back(image.config.diff_ids[len(taken) :])


def _take(image: ResolvedImage, number: int, store: LayerStore, consumer: LayerConsumer) -> None:
    diff_id = image.config.diff_ids[number]
    layer = store.layers[diff_id]
    what = f"layer {number} ({diff_id}) of {image.typed!r}"
    keep = _comes_again(image, number)
    with _given_back(store, diff_id, keep=keep), consumer.layer(diff_id, layer.offset, what, keep=keep) as tap:
        tap.advance(layer.size)
        tap.end(layer.size)


@contextmanager
def _given_back(store: LayerStore, diff_id: str, *, keep: bool) -> Iterator[None]:
    """Note that the block takes a layer's bytes away, unless ``keep``; one that fails may have taken some of them."""
    try:
        yield
    except BaseException:
        store.layers.pop(diff_id, None)
        raise
    if not keep:
        store.given_back.add(diff_id)


def _comes_again(image: ResolvedImage, number: int) -> bool:
    return image.config.diff_ids[number] in image.config.diff_ids[number + 1 :]
