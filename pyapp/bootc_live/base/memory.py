"""How much RAM there is, and how much a run took at its worst."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_INTERVAL = 0.1


def available_bytes(meminfo: str = "/proc/meminfo") -> int:
    """Give MemAvailable in bytes (proc_meminfo(5)); 0 where it cannot be read."""
    return _sum(meminfo, ("MemAvailable:",))


def _sum(meminfo: str, fields: tuple[str, ...]) -> int:
    try:
        with open(meminfo, encoding="ascii") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(fields))
    except OSError:
        return 0


def taken_bytes(meminfo: str = "/proc/meminfo") -> int:
    """Give the bytes of RAM that processes and tmpfs hold: AnonPages and Shmem of proc_meminfo(5).

    Unlike the fall of MemAvailable, this does not shift with caches of the kernel.
    """
    return _sum(meminfo, ("AnonPages:", "Shmem:"))


class PeakMemory:
    """The largest growth of what processes and tmpfs hold since the start, sampled."""

    def __init__(self) -> None:
        """Take the present as the start."""
        self._start = taken_bytes()
        self._highest = self._start

    def sample(self) -> None:
        """Look once."""
        self._highest = max(self._highest, taken_bytes())

    @property
    def used(self) -> int:
        """Bytes by which it was up at the worst sample."""
        return self._highest - self._start


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Sample every 0.1 s in the background while the block runs."""
    peak, stop = PeakMemory(), threading.Event()

    def watch() -> None:
        while not stop.wait(_INTERVAL):
            peak.sample()

    thread = threading.Thread(target=watch, name="peak-memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
        peak.sample()
