"""The data file: all layers' tar streams in one sparse file, diffIDs computed while writing.

One file means one loop device for the whole root, and no limit on layers.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bootc_live.base.errors import ImageError, OutOfMemoryError
from bootc_live.base.units import mib

# EROFS addresses 2^32 blocks; with blocks of 512 bytes, as tar has them, that is the data file's end.
BLOCK = 512
_LIMIT = 2**32 * BLOCK
# Room for the metadata in front of the first layer.
META = 16 * 2**30
_ALIGN = 2**20


@dataclass(frozen=True)
class Slot:
    """The part of the sparse data file that belongs to one layer; bytes."""

    offset: int
    size: int


def slots(sizes: Sequence[int]) -> list[Slot]:
    """Share the data file between layers, in proportion to their compressed sizes.

    What a layer unpacks to is not known before it is fetched, and holes cost
    nothing. gzip expands 1032 times at most, so images under 1.9 GiB of gzip
    always fit.
    """
    weights = [size + _ALIGN for size in sizes]
    room, total = _LIMIT - META, sum(weights)
    result, offset = [], META
    for weight in weights:
        size = room * weight // total // _ALIGN * _ALIGN
        result.append(Slot(offset, size))
        offset += size
    return result


def write_layer(
    fd: int, slot: Slot, pieces: Iterator[bytes], diff_id: str, what: str, stopped: Callable[[], bool]
) -> int:
    """Write the pieces into a slot of the data file and give their size in bytes.

    Raises ImageError where the content does not have the diffID, outgrows the
    slot, or ``stopped`` turns true; OutOfMemoryError where the file system is
    full.
    """
    algorithm, _, _ = diff_id.partition(":")
    hasher, size = hashlib.new(algorithm), 0
    for piece in pieces:
        if stopped():
            raise ImageError(f"{what} was not finished, because another layer failed", hint="see that error")
        if size + len(piece) > slot.size:
            raise ImageError(
                f"{what} unpacks to more than {mib(slot.size)}",
                hint="this is no ordinary image; if it has to be so, squash it into one layer",
            )
        hasher.update(piece)
        _write(fd, slot.offset + size, piece, what)
        size += len(piece)
    found = f"{algorithm}:{hasher.hexdigest()}"
    if found != diff_id:
        raise ImageError(
            f"{what} unpacks to the diffID {found}, the image config gives {diff_id}",
            hint="the image contradicts itself: build and push it again",
        )
    return size


def _write(fd: int, offset: int, piece: bytes, what: str) -> None:
    view = memoryview(piece)
    try:
        while view:
            count = os.pwrite(fd, view, offset)
            view, offset = view[count:], offset + count
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise full(fd, what) from error
        raise


def full(fd: int, doing: str) -> OutOfMemoryError:
    """Make the error for a full file system, with how much it holds."""
    usage = os.fstatvfs(fd)
    return OutOfMemoryError(
        f"no space left for {doing}: the file system for it holds {mib(usage.f_blocks * usage.f_frsize)}, "
        f"{mib(usage.f_bavail * usage.f_frsize)} of them free",
        hint="give the machine more memory, or use a smaller image",
    )
