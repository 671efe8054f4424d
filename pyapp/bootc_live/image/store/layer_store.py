"""The data file: the tar streams of all layers in one sparse file, hashed while they are written.

With one file, the root needs only one loop device, whatever the number of layers.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bootc_live.base.errors import ImageError
from bootc_live.base.units import mib
from bootc_live.image.sink import DataFile, LayerProgress, wait_for
from bootc_live.image.store.direct import Inflation
from bootc_live.image.verified import VerifiedLayer, placed_layer
from bootc_live.source.interface import LayerCache
from bootc_live.system.files import punch_hole, space_for, write_at
from bootc_live.system.inflate.streams import compression, peeked

# EROFS addresses 2^32 blocks; with tar's blocks of 512 bytes, that limits the data file.
BLOCK = 512
_LIMIT = 2**32 * BLOCK
_ALIGN = 2**20
# The largest piece; a failure may leave it partly written.
_MAX_PIECE = 8 * 2**20
# Holes cost no memory, and are read as zeros.
_ZEROS = bytes(2**20)
_UNOBSERVED = DataFile()


@dataclass(frozen=True)
class Slot:
    """The part of the sparse data file that belongs to one layer; bytes."""

    offset: int
    size: int


def slots(sizes: Sequence[int], begin: int = 0, end: int = _LIMIT) -> list[Slot]:
    """Divide a part of the data file between layers, in proportion to their compressed sizes.

    The unpacked size of a layer is not known before it is fetched, and holes cost nothing. gzip expands at most 1032
    times, so images of up to 1.9 GiB of gzip always fit into the whole file.
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
    """The data file, and the finished layers of all sources by diffID. Use ``layer_store``.

    Every source has its own part of the file, so that finished layers of earlier sources stay.
    """

    def __init__(self, fd: int, path: str, sources: int, begin: int, cache: LayerCache | None = None) -> None:
        """Divide an empty file, from the offset ``begin`` on, between ``sources`` sources."""
        self.path = path
        self.cache = cache
        self.layers: dict[str, VerifiedLayer] = {}
        # Layers that stay whatever image is complete: other parts of the same image.
        self.needed: set[str] = set()
        # Layers that are not put into the cache: they are made of files of this machine.
        self.local: set[str] = set()
        # Layers whose bytes were freed, because a sink consumed them.
        self.consumed: set[str] = set()
        self._fd = fd
        self._part = (_LIMIT - begin) // sources // _ALIGN * _ALIGN
        self._begin = begin - self._part
        self._next = begin

    def next_source(self) -> None:
        """Continue in the part of the next source."""
        self._begin += self._part
        self._next = self._begin

    def slots(self, sizes: Sequence[int]) -> list[Slot]:
        """Return slots for layers of these compressed sizes."""
        return slots(sizes, self._begin, self._begin + self._part)

    def rest(self) -> Slot:
        """Return the unused rest of the source's part, for layers that are written one after the other."""
        return Slot(self._next, self._begin + self._part - self._next)

    def write(
        self,
        slot: Slot,
        pieces: Iterator[bytes],
        stopped: Callable[[], bool],
        algorithm: str = "sha256",
        progress: LayerProgress = _UNOBSERVED,
    ) -> tuple[str, int]:
        """Write pieces into a slot; see ``write_layer``."""
        found, size = write_layer(self._fd, slot, pieces, stopped, algorithm, progress)
        self._advance(slot, size)
        return found, size

    def place(self, diff_id: str, slot: Slot) -> int | None:
        """Put a layer of the cache that need not be verified into a slot, and return its size in bytes.

        None if there is none. Raise OutOfMemoryError.
        """
        if self.cache is None:
            return None
        try:
            placed = self.cache.place(diff_id, self._fd, slot.offset, slot.size)
        except BaseException:
            self.drop(slot.offset, slot.size)
            raise
        if placed is None:
            return None
        self.layers[diff_id] = placed_layer(diff_id, slot.offset, placed)
        self._advance(slot, placed.size)
        return placed.size

    def inflate(
        self,
        slot: Slot,
        chunks: Iterator[bytes],
        stopped: Callable[[], bool],
        algorithm: str = "sha256",
        progress: LayerProgress = _UNOBSERVED,
        most: int = 1,
    ) -> tuple[str, int]:
        """Inflate a layer into a slot, by ``most`` processes; return digest and size of the result.

        ``progress`` is told how much is written, and can delay the writer. Raise as ``write_layer``, and ImageError
        for damaged data.
        """
        first, whole = peeked(chunks)
        kind = compression(first)
        if kind is None:
            return self.write(slot, whole, stopped, algorithm, progress)
        hasher = hashlib.new(algorithm)
        inflation = Inflation(kind, slot.offset, slot.offset + slot.size, stopped, hasher, progress, most)
        came = inflation.into(self.path, whole)
        self._advance(slot, came)
        return f"{algorithm}:{hasher.hexdigest()}", came

    def _advance(self, slot: Slot, size: int) -> None:
        if slot.offset == self._next:
            self._next = -(-(slot.offset + size) // _ALIGN) * _ALIGN

    def digest(self, layer: VerifiedLayer, algorithm: str) -> str:
        """Return the digest of a finished layer by any algorithm."""
        if algorithm == layer.diff_id.partition(":")[0]:
            return layer.diff_id
        hasher = hashlib.new(algorithm)
        for begin in range(layer.offset, layer.offset + layer.size, _ALIGN):
            hasher.update(os.pread(self._fd, min(_ALIGN, layer.offset + layer.size - begin), begin))
        return f"{algorithm}:{hasher.hexdigest()}"

    def last_bytes(self, layer: VerifiedLayer, count: int) -> bytes:
        """Return the end of a finished layer."""
        count = min(count, layer.size)
        return os.pread(self._fd, count, layer.offset + layer.size - count)

    def fill_cache(self, diff_ids: Iterable[str]) -> None:
        """Put finished layers into the cache, if there is one, except for those that were consumed."""
        if self.cache is not None:
            whole = [self.layers[diff_id] for diff_id in diff_ids if diff_id not in self.consumed | self.local]
            self.cache.keep(self._fd, [(layer.diff_id, layer.offset, layer.size) for layer in whole])

    def drop(self, offset: int, size: int) -> None:
        """Free the memory of a part of the file."""
        punch_hole(self._fd, offset, size)

    def forget_consumed(self, diff_ids: Collection[str]) -> None:
        """Remove consumed layers that are needed again, so that they are fetched again."""
        for diff_id in self.consumed & set(diff_ids):
            self.layers.pop(diff_id, None)
            self.consumed.discard(diff_id)

    def keep_only(self, diff_ids: Collection[str]) -> None:
        """Drop all other finished layers, unless they are ``needed``."""
        kept = {*diff_ids, *(self.needed & self.layers.keys())}
        needed = {self.layers[diff_id].offset for diff_id in kept}
        for diff_id in self.layers.keys() - kept:
            # Two diffIDs of different algorithms may have the same data.
            layer = self.layers.pop(diff_id)
            if layer.offset not in needed:
                self.drop(layer.offset, layer.size)


@contextmanager
def layer_store(path: str, sources: int = 1, begin: int = 0, cache: LayerCache | None = None) -> Iterator[LayerStore]:
    """Create the data file ``path``, with layers from the offset ``begin`` on; remove it after an error.

    ``cache`` has layers of earlier runs, and gets those of this one. Raise OSError.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        store = LayerStore(fd, path, sources, begin, cache)
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
    stopped: Callable[[], bool],
    algorithm: str = "sha256",
    progress: LayerProgress = _UNOBSERVED,
) -> tuple[str, int]:
    """Write the pieces into a slot of the data file; return their digest and their size in bytes.

    Raise ImageError if they outgrow the slot or ``stopped`` returns True, and OutOfMemoryError if the file system is
    full; then remove what was written.
    """
    hasher, size = hashlib.new(algorithm), 0
    try:
        for piece in pieces:
            if stopped():
                raise ImageError("it was not finished, because another layer failed", hint="see that error")
            if size + len(piece) > slot.size:
                raise ImageError(
                    f"it unpacks to more than {mib(slot.size)}",
                    hint="check the image; if it is really that large, squash it into one layer",
                )
            hasher.update(piece)
            size += len(piece)
            # The last byte of zeros makes the file as long as it has to be.
            written = piece if piece != _ZEROS[: len(piece)] else piece[-1:]
            with space_for(fd):
                write_at(fd, slot.offset + size - len(written), written)
            progress.advance(size)
            wait_for(progress, size, stopped)
    except BaseException:
        punch_hole(fd, slot.offset, size + _MAX_PIECE)
        raise
    return f"{algorithm}:{hasher.hexdigest()}", size
