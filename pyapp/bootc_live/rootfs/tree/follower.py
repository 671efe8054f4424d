"""Read the tar of a layer while it is still being written."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

from bootc_live.formats.tar.reader import Member, read_members
from bootc_live.system.files import punch_hole

# How many bytes the writer may be ahead of the reader when it is given more to decode.
AHEAD = 8 * 2**20
# What it may write beyond that: its pipe and its buffers are full of data that is to be decoded, some 2 MiB.
BEYOND = 5 * 2**20
# Memory is freed in steps of this size: each call costs time.
PUNCH_STEP = 4 * 2**20
_UNKNOWN = 2**62
_PAGE = 4096
# Headers are short, and those of small files are close to each other.
_WINDOW = 8 * 2**10


class AbandonedError(Exception):
    """The layer will not be completed."""


class TarFollower:
    """A tar at offset ``begin`` of an open file: a LayerProgress for its writer, a Buffer for its reader.

    Unless ``keep`` is set, ``release`` frees the memory of what has been read.
    """

    def __init__(self, fd: int, begin: int, *, keep: bool) -> None:
        """Follow a tar of which nothing has been written."""
        self._fd, self._begin, self._keep = fd, begin, keep
        self._written, self._released, self._punched = 0, 0, 0
        self._wanted, self._ignored = 0, False
        self._size = _UNKNOWN
        self._abandoned = False
        self._changed = threading.Condition()
        # Bytes that were read with earlier ones, from the offset on.
        self._held, self._held_from = b"", 0

    def advance(self, size: int) -> None:
        """Note that ``size`` bytes can be read."""
        with self._changed:
            self._written = size
            self._changed.notify_all()
        if self._ignored:
            self._free(size)

    def full(self, size: int) -> bool:
        """Return whether the writer, at ``size`` bytes, is too far ahead; never while the reader waits for more."""
        return not self._ignored and size - max(self._released, self._wanted) > AHEAD

    def end(self, size: int) -> None:
        """Note that the tar is complete with ``size`` bytes."""
        with self._changed:
            self._written = self._size = size
            self._changed.notify_all()

    def abandon(self) -> None:
        """Wake a waiting reader, which gets AbandonedError."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def __len__(self) -> int:
        """Return the size, or a very large number until it is known."""
        return self._size

    def __getitem__(self, key: slice, /) -> bytes:
        """Return bytes as soon as they are written, fewer at the end of the tar; raise AbandonedError."""
        start, stop = key.start - self._held_from, key.stop - self._held_from
        if start < 0 or stop > len(self._held):
            self._held = self.read(key.start, key.stop - key.start, _WINDOW)
            self._held_from, start, stop = key.start, 0, key.stop - key.start
        return self._held[start:stop]

    def read(self, start: int, length: int, most: int = 0) -> bytes:
        """Return ``length`` bytes from ``start`` on, like a slice; if more are there already, up to ``most`` bytes."""
        stop = start + length
        with self._changed:
            self._wanted = max(self._wanted, stop)
            while min(stop, self._size) > self._written and not self._abandoned:
                self._changed.wait()
            if self._abandoned:
                raise AbandonedError
            stop = min(max(stop, min(start + most, self._written)), self._size)
        parts = []
        while start < stop and (part := os.pread(self._fd, stop - start, self._begin + start)):
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def release(self, position: int) -> None:
        """Note that nothing before ``position`` will be read again."""
        self._released = max(self._released, position)
        self._free(self._released)

    def ignore_rest(self) -> None:
        """Let the writer go on although nobody reads."""
        self._ignored = True

    def _free(self, position: int) -> None:
        if not self._keep and position - self._punched >= PUNCH_STEP:
            punch_hole(self._fd, self._begin + self._punched, position - self._punched)
            # Only whole pages were freed: the last one is left for the next time.
            self._punched = position // PUNCH_STEP * PUNCH_STEP

    def drop(self) -> None:
        """Free all of it."""
        if not self._keep:
            punch_hole(self._fd, self._begin, -(-self._written // _PAGE) * _PAGE)


def follow(tar: TarFollower, work: Callable[[Iterator[Member]], object]) -> Exception | None:
    """Call ``work`` with the members of a tar, and return its error: it only counts if the layer turns out to be right.

    Return None for a tar that is abandoned.
    """
    try:
        work(read_members(tar))
    except AbandonedError:
        return None
    except Exception as error:  # noqa: BLE001 - returned
        return error
    finally:
        tar.ignore_rest()
    return None
