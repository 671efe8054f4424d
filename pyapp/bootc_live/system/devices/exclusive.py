"""Keep a disk, or a disk in a file, to this process while it is written."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# udev locks a disk for moments, while it probes it.
_PATIENCE, _STEP = 20.0, 0.05
# struct flock: type, whence, start, length (0 is all), process.
_FLOCK = struct.Struct("hhqqi0q")
_BUSY = (errno.EAGAIN, errno.EACCES)


def is_claimed(path: str) -> bool:
    """Return whether a mount, swap, another device or a program has a block device exclusively; raise OSError.

    It counts what has one of its partitions, in whatever namespace it runs.
    """
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return True
    return False


@contextmanager
def claimed(path: str) -> Iterator[None]:
    """Have a block device exclusively for the block; raise OSError, EBUSY if somebody else has."""
    claim = os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    try:
        yield
    finally:
        os.close(claim)


@contextmanager
def locked(path: str) -> Iterator[int]:
    """Open a disk or file for writing and lock it for the block; yield its descriptor. Raise OSError, EBUSY if locked.

    The lock of flock(2) keeps udev from reading a disk that changes (systemd.io, "Block Device Locking"). The other
    one, of fcntl(2), is held by virtual machines that run from a disk or file, and by a second run of this program.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        _lock(lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB))
        _lock(lambda: fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)))
        yield fd
    finally:
        os.close(fd)


def _lock(take: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            take()
        except OSError as error:
            if error.errno not in _BUSY:
                raise
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY)) from error
            time.sleep(_STEP)
        else:
            return
