"""How much RAM there is, and how much a run took at its worst."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_INTERVAL = 0.1


def available_bytes(meminfo: str = "/proc/meminfo") -> int:
    """Give MemAvailable in bytes (proc_meminfo(5)); 0 where it cannot be read."""
    try:
        with open(meminfo, encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


class PeakMemory:
    """The largest fall of MemAvailable since the start, sampled."""

    def __init__(self) -> None:
        """Take the present as the start."""
        self._start = available_bytes()
        self._lowest = self._start

    def sample(self) -> None:
        """Look once."""
        self._lowest = min(self._lowest, available_bytes())

    @property
    def used(self) -> int:
        """Bytes by which MemAvailable was down at the worst sample."""
        return self._start - self._lowest


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
