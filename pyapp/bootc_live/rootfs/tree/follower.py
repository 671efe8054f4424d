"""A layer's tar that is read while it is still being written."""

from __future__ import annotations

import os
import threading

from bootc_live.system.files import punch_hole

# How many bytes the writer may be ahead of the reader.
AHEAD = 32 * 2**20
# Memory is freed in steps of this size: each call costs time.
PUNCH_STEP = 4 * 2**20
_UNKNOWN = 2**62
_PAGE = 4096


class AbandonedError(Exception):
    """The layer will not come to its end."""


class TarFollower:
    """A tar at ``begin`` of an open file: a Tap for its writer, a Buffer for its reader.

    What has been read is given back by ``release``, unless ``keep``.
    """

    def __init__(self, fd: int, begin: int, *, keep: bool) -> None:
        """Take a tar of which nothing is there yet."""
        self._fd, self._begin, self._keep = fd, begin, keep
        self._written, self._released, self._punched = 0, 0, 0
        self._wanted, self._ignored = 0, False
        self._size = _UNKNOWN
        self._abandoned = False
        self._changed = threading.Condition()

    def advance(self, size: int) -> None:
        """So many bytes can be read now."""
        with self._changed:
            self._written = size
            self._changed.notify_all()
        if self._ignored:
            self._give_back(size)

    def full(self, size: int) -> bool:
        """Tell the writer at ``size`` bytes whether it is too far ahead; never while the reader waits for more."""
        return not self._ignored and size - max(self._released, self._wanted) > AHEAD

    def end(self, size: int) -> None:
        """There is no more than this."""
        with self._changed:
            self._written = self._size = size
            self._changed.notify_all()

    def abandon(self) -> None:
        """Wake a waiting reader up, with AbandonedError."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def __len__(self) -> int:
        """Give the size, or a very large one as long as it is not known."""
        return self._size

    def __getitem__(self, key: slice, /) -> bytes:
        """Give bytes as soon as they are there; fewer where the tar ends. Raises AbandonedError."""
        return self.read(key.start, key.stop - key.start)

    def read(self, start: int, length: int) -> bytes:
        """Give ``length`` bytes from ``start`` on, as a slice does."""
        stop = start + length
        with self._changed:
            self._wanted = max(self._wanted, stop)
            while min(stop, self._size) > self._written and not self._abandoned:
                self._changed.wait()
            if self._abandoned:
                raise AbandonedError
            stop = min(stop, self._size)
        parts = []
        while start < stop and (part := os.pread(self._fd, stop - start, self._begin + start)):
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def release(self, position: int) -> None:
        """Nothing before this is read any more."""
        self._released = max(self._released, position)
        self._give_back(self._released)

    def ignore_rest(self) -> None:
        """Let the writer go on, though nobody reads any more."""
        self._ignored = True

    def _give_back(self, position: int) -> None:
        if not self._keep and position - self._punched >= PUNCH_STEP:
            punch_hole(self._fd, self._begin + self._punched, position - self._punched)
            # Whole pages only: the one it ends in is left for the next time.
            self._punched = position // PUNCH_STEP * PUNCH_STEP

    def drop(self) -> None:
        """Give back all that there is of it."""
        if not self._keep:
            punch_hole(self._fd, self._begin, -(-self._written // _PAGE) * _PAGE)
