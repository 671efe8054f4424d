"""How much RAM there is, and how much a run took at its worst."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.threads import background_thread

_INTERVAL = 0.1


def available_bytes(meminfo: str = "/proc/meminfo") -> int:
    """Give MemAvailable in bytes (proc_meminfo(5)); 0 where it cannot be read."""
    return _sum(meminfo, ("MemAvailable:",))


def total_bytes(meminfo: str = "/proc/meminfo") -> int:
    """Give MemTotal in bytes (proc_meminfo(5)), of which tmpfs(5) takes its percentages; 0 where it cannot be read."""
    return _sum(meminfo, ("MemTotal:",))


def taken_bytes(meminfo: str = "/proc/meminfo", vmstat: str = "/proc/vmstat") -> int:
    """Give the bytes of RAM that processes, tmpfs and zram hold.

    These are AnonPages and Shmem of proc_meminfo(5), and nr_zspages of proc_vmstat(5). Unlike the fall of
    MemAvailable, they do not shift with caches of the kernel.
    """
    return _sum(meminfo, ("AnonPages:", "Shmem:")) + _sum(vmstat, ("nr_zspages ",), mmap.PAGESIZE)


def used_bytes(meminfo: str = "/proc/meminfo") -> int:
    """Give the bytes of RAM that hold what cannot be dropped, whoever holds it: the kernel for itself, too.

    That is all of proc_meminfo(5) but MemFree, Buffers, SReclaimable, and what of Cached is not Shmem.
    """
    taken = _sum(meminfo, ("MemTotal:", "Shmem:"))
    return taken - _sum(meminfo, ("MemFree:", "Buffers:", "Cached:", "SReclaimable:"))


def _sum(path: str, fields: tuple[str, ...], unit: int = 1024) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return sum(int(line.split()[1]) * unit for line in file if line.startswith(fields))
    except OSError:
        return 0


def give_back() -> None:
    """Return memory that this process has freed to the kernel, as malloc_trim(3) does; nothing without glibc."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


class PeakMemory:
    """The largest growth since the start of what processes, tmpfs and zram hold, or of another measure, sampled."""

    def __init__(self, measure: Callable[[], int] | None = None) -> None:
        """Take the present as the start; ``measure`` gives bytes."""
        self._measure = taken_bytes if measure is None else measure
        self._start = self._measure()
        self._highest = self._start

    def sample(self) -> None:
        """Look once."""
        self._highest = max(self._highest, self._measure())

    @property
    def used(self) -> int:
        """Bytes by which it was up at the worst sample."""
        return self._highest - self._start


@contextmanager
def peak_memory(measure: Callable[[], int] | None = None, interval: float = _INTERVAL) -> Iterator[PeakMemory]:
    """Sample every ``interval`` seconds in the background while the block runs."""
    peak, stop = PeakMemory(measure), threading.Event()

    def watch() -> None:
        while not stop.wait(interval):
            peak.sample()

    try:
        with background_thread(watch, stop.set, "peak-memory"):
            yield peak
    finally:
        peak.sample()
