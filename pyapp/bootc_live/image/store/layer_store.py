"""The data file: all layers' tar streams in one sparse file, digests computed while writing.

One file means one loop device for the whole root, and no limit on layers.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from bootc_live.base.errors import ImageError
from bootc_live.base.units import mib
from bootc_live.image.sink import DataFile, LayerProgress, wait_for
from bootc_live.image.store.direct import Inflation
from bootc_live.image.verified import VerifiedLayer
from bootc_live.system.files import punch_hole, space_for, write_at
from bootc_live.system.inflate import inflate, inflater, peeked

# EROFS addresses 2^32 blocks; with blocks of 512 bytes, as tar has them, that is the data file's end.
BLOCK = 512
_LIMIT = 2**32 * BLOCK
_ALIGN = 2**20
# Starting a program takes longer than inflating less.
_WORTH_A_PROGRAM = 2**20
# Of a piece that was written in part only.
_MOST_LOST = 8 * 2**20
_ALONE = DataFile()


@dataclass(frozen=True)
class Slot:
    """The part of the sparse data file that belongs to one layer; bytes."""

    offset: int
    size: int


def slots(sizes: Sequence[int], begin: int = 0, end: int = _LIMIT) -> list[Slot]:
    """Share a part of the data file between layers, in proportion to their compressed sizes.

    What a layer unpacks to is not known before it is fetched, and holes cost
    nothing. gzip expands 1032 times at most, so images under 1.9 GiB of gzip
    always fit into the whole of it.
    """
    weights = [size + _ALIGN for size in sizes]
    room, total = end - begin, sum(weights)
    result, offset = [], begin
    for weight in weights:
        size = room * weight // total // _ALIGN * _ALIGN
        result.append(Slot(offset, size))
        offset += size
    return result


class LayerStore:
    """The data file while it fills: finished layers by diffID, from whatever sources they came. Use ``layer_store``.

    Every source has a part of the file for itself, so that what one of them finished stays where it is.
    """

    def __init__(self, fd: int, path: str, sources: int, begin: int) -> None:
        """Divide an empty file, from the offset ``begin`` on, between ``sources`` sources."""
        self.path = path
        self.layers: dict[str, VerifiedLayer] = {}
        # Those of them whose bytes are no more, because a consumer has what it needs of them.
        self.given_back: set[str] = set()
        self._fd = fd
        self._part = (_LIMIT - begin) // sources // _ALIGN * _ALIGN
        self._begin = begin - self._part
        self._next = begin
        self._ran_full = threading.Event()

    def has_room(self) -> None:
        """Forget that the file system was full: what filled it is gone."""
        self._ran_full.clear()

    def next_source(self) -> None:
        """Go on to the part of the next source."""
        self.has_room()
        self._begin += self._part
        self._next = self._begin

    def slots(self, sizes: Sequence[int]) -> list[Slot]:
        """Give places for layers of these compressed sizes."""
        return slots(sizes, self._begin, self._begin + self._part)

    def rest(self) -> Slot:
        """Give all that is left of the source's part, for one who writes layers one after the other."""
        return Slot(self._next, self._begin + self._part - self._next)

    def write(
        self,
        slot: Slot,
        pieces: Iterator[bytes],
        what: str,
        stopped: Callable[[], bool],
        algorithm: str = "sha256",
        progress: LayerProgress = _ALONE,
    ) -> tuple[str, int]:
        """Write pieces into a slot; see ``write_layer``."""
        found, size = write_layer(self._fd, slot, pieces, what, stopped, algorithm, progress)
        self._advance(slot, size)
        return found, size

    def inflate(
        self,
        slot: Slot,
        chunks: Iterator[bytes],
        size: int,
        what: str,
        stopped: Callable[[], bool],
        algorithm: str = "sha256",
        progress: LayerProgress = _ALONE,
    ) -> tuple[str, int]:
        """Inflate ``size`` bytes of a layer into a slot; give the digest and the size of what came out.

        ``progress`` is told how far it has come, and may hold it up.
        Raises as ``write_layer``, and ImageError for damaged data.
        """
        first, whole = peeked(chunks)
        argv = inflater(first) if size >= _WORTH_A_PROGRAM else None
        if argv is None:
            with closing(inflate(whole, what)) as pieces:
                return self.write(slot, pieces, what, stopped, algorithm, progress)
        hasher = hashlib.new(algorithm)
        inflation = Inflation(
            argv, slot.offset, slot.offset + slot.size, what, stopped, hasher, self._ran_full, progress
        )
        came = inflation.into(self.path, whole)
        self._advance(slot, came)
        return f"{algorithm}:{hasher.hexdigest()}", came

    def _advance(self, slot: Slot, size: int) -> None:
        if slot.offset == self._next:
            self._next = -(-(slot.offset + size) // _ALIGN) * _ALIGN

    def digest(self, layer: VerifiedLayer, algorithm: str) -> str:
        """Give the digest of a finished layer by another algorithm than the one it was written with."""
        if algorithm == layer.diff_id.partition(":")[0]:
            return layer.diff_id
        hasher = hashlib.new(algorithm)
        for begin in range(layer.offset, layer.offset + layer.size, _ALIGN):
            hasher.update(os.pread(self._fd, min(_ALIGN, layer.offset + layer.size - begin), begin))
        return f"{algorithm}:{hasher.hexdigest()}"

    def drop(self, offset: int, size: int) -> None:
        """Give the memory of something written back."""
        punch_hole(self._fd, offset, size)

    def forget_given_back(self, diff_ids: Collection[str]) -> None:
        """Make layers that are needed once more count as not fetched where their bytes are no more."""
        for diff_id in self.given_back & set(diff_ids):
            self.layers.pop(diff_id, None)
            self.given_back.discard(diff_id)

    def keep_only(self, diff_ids: Collection[str]) -> None:
        """Drop finished layers that no one needs."""
        needed = {self.layers[diff_id].offset for diff_id in diff_ids}
        for diff_id in self.layers.keys() - diff_ids:
            # The same data may be known by two algorithms.
            layer = self.layers.pop(diff_id)
            if layer.offset not in needed:
                self.drop(layer.offset, layer.size)


@contextmanager
def layer_store(path: str, sources: int = 1, begin: int = 0) -> Iterator[LayerStore]:
    """Make the new data file ``path``, and leave it free up to the offset ``begin``; remove it after an error.

    Raise OSError.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        store = LayerStore(fd, path, sources, begin)
        store.next_source()
        yield store
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)


def write_layer(
    fd: int,
    slot: Slot,
    pieces: Iterator[bytes],
    what: str,
    stopped: Callable[[], bool],
    algorithm: str = "sha256",
    progress: LayerProgress = _ALONE,
) -> tuple[str, int]:
    """Write the pieces into a slot of the data file; give their digest and their size in bytes.

    Raises ImageError where they outgrow the slot or ``stopped`` turns true, and OutOfMemoryError where the file system
    is full; nothing of them stays in the file then.
    """
    hasher, size = hashlib.new(algorithm), 0
    try:
        for piece in pieces:
            if stopped():
                raise ImageError(f"{what} was not finished, because another layer failed", hint="see that error")
            if size + len(piece) > slot.size:
                raise ImageError(
                    f"{what} unpacks to more than {mib(slot.size)}",
                    hint="this is no ordinary image; if it has to be so, squash it into one layer",
                )
            hasher.update(piece)
            with space_for(what, fd):
                write_at(fd, slot.offset + size, piece)
            size += len(piece)
            progress.advance(size)
            wait_for(progress, size, stopped)
    except BaseException:
        punch_hole(fd, slot.offset, size + _MOST_LOST)
        raise
    return f"{algorithm}:{hasher.hexdigest()}", size
