"""What a piece of work takes, seen from outside: seconds, CPU seconds of its processes, and RAM at its worst.

RAM is what was started meanwhile and what the file systems in RAM of this mount namespace hold. It does not see other
people's work, nor what is hidden in mounts elsewhere.
"""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from bootc_live.system.memory import process_bytes

_INTERVAL: Final = 0.05
# Seconds to wait for, and bytes given back meanwhile that do not matter.
_PATIENCE: Final = 5.0
_QUIET: Final = 2**20


@dataclass
class Cost:
    """What one run took: seconds, CPU seconds, and bytes of RAM at its worst."""

    seconds: float = 0.0
    cpu: float = 0.0
    own: int = 0


@dataclass
class Costs:
    """Several runs of the same work."""

    runs: list[Cost] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median time."""
        return median(run.seconds for run in self.runs)

    @property
    def spread(self) -> str:
        """The shortest and the longest time."""
        times = [run.seconds for run in self.runs]
        return f"{min(times):.2f}-{max(times):.2f}"

    @property
    def cpu(self) -> float:
        """The median time of all cores."""
        return median(run.cpu for run in self.runs)

    @property
    def own(self) -> int:
        """Bytes of RAM at the worst moment: the median."""
        return int(median(run.own for run in self.runs))

    @contextmanager
    def measured(self) -> Iterator[Cost]:
        """Adds a run: the block."""
        _wait_for_quiet()
        cost, stop = Cost(), threading.Event()
        there, devices = set(_processes()), set(_zram_devices())
        start_own = _own(there, devices)

        def look() -> None:
            cost.own = max(cost.own, _own(there, devices) - start_own)

        def watch() -> None:
            while not stop.wait(_INTERVAL):
                look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        began, spent = time.monotonic(), _spent()
        try:
            yield cost
            cost.seconds, cost.cpu = time.monotonic() - began, _spent() - spent
        finally:
            stop.set()
            thread.join()
        look()
        self.runs.append(cost)


def in_turns(rounds: int, *works: Callable[[Costs], object]) -> list[Costs]:
    """The costs of every work, which measures itself; in turns, so that a busy moment does not hit one alone."""
    all_costs = [Costs() for _ in works]
    for _ in range(rounds):
        for work, costs in zip(works, all_costs, strict=True):
            work(costs)
    return all_costs


def _wait_for_quiet() -> None:
    """Waits until what an earlier run held is given back: that may take a moment after the last umount."""
    deadline = time.monotonic() + _PATIENCE
    held = process_bytes()
    while time.monotonic() < deadline:
        time.sleep(4 * _INTERVAL)
        before, held = held, process_bytes()
        if before - held < _QUIET:
            return


def _spent() -> float:
    """CPU seconds of all processes below this one that somebody has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def _own(there: set[int], devices: set[Path]) -> int:
    newer = (number for number in _processes() if number not in there)
    newer_devices = (device for device in _zram_devices() if device not in devices)
    return sum(map(_anonymous, newer)) + _tmpfs() + sum(map(_stored, newer_devices))


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _anonymous(number: int) -> int:
    """Its share of anonymous memory: copies of a process share most of it (smaps_rollup, proc_pid_smaps(5)).

    0 for a process that has ended or is the kernel's.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
    return 0


def _tmpfs() -> int:
    """What the tmpfs of this mount namespace hold, each counted once; those below /dev are everybody's."""
    held: dict[str, int] = {}
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        head, _, tail = line.partition(" - ")
        number, place = head.split()[2], head.split()[4]
        if tail.split()[0] == "tmpfs" and number not in held and not place.startswith("/dev/"):
            with suppress(OSError):
                found = os.statvfs(place.replace("\\040", " "))
                held[number] = (found.f_blocks - found.f_bfree) * found.f_frsize
    return sum(held.values())


def _zram_devices() -> list[Path]:
    return list(Path("/sys/block").glob("zram*"))


def _stored(device: Path) -> int:
    """What a zram device takes (mem_used_total of mm_stat in Documentation/admin-guide/blockdev/zram.rst)."""
    with suppress(OSError):
        return int((device / "mm_stat").read_text().split()[2])
    return 0
