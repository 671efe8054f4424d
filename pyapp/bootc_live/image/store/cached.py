"""Copy layers from the cache into the data file, and hash them again on the way: nothing else makes them verified."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from bootc_live.base.errors import ImageError, OutOfMemoryError, SourceError
from bootc_live.image.sink import LayerProgress
from bootc_live.image.store.layer_store import LayerStore, Slot
from bootc_live.image.verified import verified_layer
from bootc_live.image.verify import WrongBytesError
from bootc_live.source.interface import LayerCache


class DamagedCopyError(WrongBytesError):
    """A layer in the cache is not what it should be; it was discarded."""


def copied(
    store: LayerStore, diff_id: str, place: Slot, stopped: Callable[[], bool], progress: LayerProgress
) -> int | None:
    """Copy a layer from the cache to its place, and return its size in bytes; None if it is not in the cache.

    Raise DamagedCopyError, and ImageError and OutOfMemoryError as ``LayerStore.write``.
    """
    cache = store.cache
    if cache is None:
        return None
    with cache.open_layer(diff_id) as pieces:
        if pieces is None:
            return None
        try:
            found, size = store.write(place, pieces, stopped, diff_id.partition(":")[0], progress)
        except SourceError as error:
            raise _damaged(cache, diff_id, error.message) from error
        except ImageError as error:
            if stopped():
                raise
            raise _damaged(cache, diff_id, error.message) from error
        except OutOfMemoryError as error:
            # Wrong bytes may have filled memory; if they are right, there is too little of it.
            if _digest(cache, diff_id) == diff_id:
                raise
            raise _damaged(cache, diff_id, "it has another digest") from error
    if found != diff_id:
        store.drop(place.offset, size)
        raise _damaged(cache, diff_id, f"it has the digest {found}")
    store.layers[diff_id] = verified_layer(diff_id, found, place.offset, size)
    return size


def _damaged(cache: LayerCache, diff_id: str, why: str) -> DamagedCopyError:
    cache.discard(diff_id)
    return DamagedCopyError(f"{diff_id} in the cache {cache.path!r} is damaged: {why}", hint="fetch it again")


def _digest(cache: LayerCache, diff_id: str) -> str | None:
    """Return the digest of a layer in the cache, None if it cannot be read."""
    algorithm = diff_id.partition(":")[0]
    hasher = hashlib.new(algorithm)
    with cache.open_layer(diff_id) as pieces:
        try:
            for piece in pieces or ():
                hasher.update(piece)
        except SourceError:
            return None
    return f"{algorithm}:{hasher.hexdigest()}"
