"""Measure memory: total, available, and the peak of a run."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.threads import background_thread

_INTERVAL = 0.1
_M_ARENA_MAX = -8


def available_bytes(meminfo: str = "/proc/meminfo") -> int:
    """Return MemAvailable in bytes (proc_meminfo(5)); 0 if it cannot be read."""
    return _sum(meminfo, ("MemAvailable:",))


def total_bytes(meminfo: str = "/proc/meminfo") -> int:
    """Return MemTotal in bytes (proc_meminfo(5)), the base of percentages in tmpfs(5); 0 if it cannot be read."""
    return _sum(meminfo, ("MemTotal:",))


def process_bytes(meminfo: str = "/proc/meminfo", vmstat: str = "/proc/vmstat") -> int:
    """Return the bytes of RAM that processes, tmpfs and zram use.

    The sum of AnonPages and Shmem of proc_meminfo(5) and nr_zspages of proc_vmstat(5). Unlike MemAvailable, it does not
    depend on caches of the kernel.
    """
    return _sum(meminfo, ("AnonPages:", "Shmem:")) + _sum(vmstat, ("nr_zspages ",), mmap.PAGESIZE)


def unreclaimable_bytes(meminfo: str = "/proc/meminfo") -> int:
    """Return the bytes of RAM that cannot be reclaimed, memory of the kernel included.

    MemTotal of proc_meminfo(5) minus MemFree, Buffers, SReclaimable, and Cached without Shmem.
    """
    taken = _sum(meminfo, ("MemTotal:", "Shmem:"))
    return taken - _sum(meminfo, ("MemFree:", "Buffers:", "Cached:", "SReclaimable:"))


def _sum(path: str, fields: tuple[str, ...], unit: int = 1024) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return sum(int(line.split()[1]) * unit for line in file if line.startswith(fields))
    except OSError:
        return 0


def share_heap() -> None:
    """Let all threads that are started from now on share one heap (mallopt(3)); does nothing without glibc.

    By default most threads get a heap of their own, and ``trim_heap`` cannot return the free memory at its end. The
    main thread keeps its heap: threads that share that one take 4 % more CPU time.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def trim_heap() -> None:
    """Return freed heap memory of this process to the kernel (malloc_trim(3)); does nothing without glibc."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


class PeakMemory:
    """The largest sampled growth of used memory, or of another measure, since the start."""

    def __init__(self, measure: Callable[[], int] | None = None) -> None:
        """Begin at the current value; ``measure`` returns bytes."""
        self._measure = process_bytes if measure is None else measure
        self._start = self._measure()
        self._highest = self._start

    def sample(self) -> None:
        """Take a sample."""
        self._highest = max(self._highest, self._measure())

    @property
    def used(self) -> int:
        """The largest growth in bytes."""
        return self._highest - self._start


@contextmanager
def peak_memory(measure: Callable[[], int] | None = None, interval: float = _INTERVAL) -> Iterator[PeakMemory]:
    """Sample every ``interval`` seconds in a thread during the block."""
    peak, stop = PeakMemory(measure), threading.Event()

    def watch() -> None:
        while not stop.wait(interval):
            peak.sample()

    try:
        with background_thread(watch, stop.set, "peak-memory"):
            yield peak
    finally:
        peak.sample()
