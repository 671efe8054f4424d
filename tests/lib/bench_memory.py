"""What a piece of work takes, seen from outside: seconds, CPU seconds of its processes, and RAM at its worst.

RAM is what its processes and their file systems in RAM hold, in any mount namespace, with new zram devices; what other
people do does not count. Looking takes CPU time itself, so a run is either timed or watched.
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
class Costs:
    """Several runs of the same work: seconds and CPU seconds of timed runs, and peaks in bytes of watched ones."""

    times: list[float] = field(default_factory=list)
    cpu_times: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    watching: bool = False

    @property
    def seconds(self) -> float:
        """The median time."""
        return median(self.times)

    @property
    def spread(self) -> str:
        """The shortest and the longest time."""
        return f"{min(self.times):.2f}-{max(self.times):.2f}"

    @property
    def cpu(self) -> float:
        """The median time of all cores."""
        return median(self.cpu_times)

    @property
    def peak(self) -> int:
        """Bytes of RAM at the worst moment: the median."""
        return int(median(self.peaks))

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Adds a run: the block."""
        _wait_for_quiet()
        if self.watching:
            with _watched() as peak:
                yield
            self.peaks.append(peak[0])
            return
        began, spent = time.monotonic(), _spent()
        yield
        self.times.append(time.monotonic() - began)
        self.cpu_times.append(_spent() - spent)


def in_turns(rounds: int, *works: Callable[[Costs], object]) -> list[Costs]:
    """The costs of every work, which measures itself: a watched run, then timed ones.

    They go in turns, so that a busy moment does not hit one alone.
    """
    all_costs = [Costs() for _ in works]
    for number in range(1 + rounds):
        for work, costs in zip(works, all_costs, strict=True):
            costs.watching = number == 0
            work(costs)
    return all_costs


@contextmanager
def _watched() -> Iterator[list[int]]:
    """Yields a list of the most bytes that were held at once."""
    peak, stop = [0], threading.Event()
    there, devices = set(_processes_below(os.getpid())), set(_zram_devices())
    start = _held(there, devices)

    def look() -> None:
        peak[0] = max(peak[0], _held(there, devices) - start)

    def watch() -> None:
        while not stop.wait(_INTERVAL):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
    look()


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


def _held(there: set[int], devices: set[Path]) -> int:
    """What processes below this one hold, and their file systems, and zram devices; without what was there before."""
    below = [number for number in _processes_below(os.getpid()) if number not in there]
    newer = (device for device in _zram_devices() if device not in devices)
    # A process that is about to execute a program shares all memory with the one that started it: the same account.
    anonymous = sum(map(_anonymous, {_account(number) for number in below}))
    return anonymous + _tmpfs([os.getpid(), *below]) + sum(map(_stored, newer))


def _processes_below(top: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            # The name of the program may contain anything but ends at the last parenthesis (proc_pid_stat(5)).
            after = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
            parents.setdefault(int(after[1]), []).append(int(name))
    found = list[int]()
    todo = [top]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _account(number: int) -> str:
    """What the kernel says of a process's memory; nothing if it has ended or is the kernel's."""
    with suppress(OSError):
        return Path(f"/proc/{number}/smaps_rollup").read_text()
    return ""


def _anonymous(account: str) -> int:
    """The share of anonymous memory: copies of a process share most of it (smaps_rollup, proc_pid_smaps(5))."""
    lines = (line.split() for line in account.splitlines())
    return sum(int(fields[1]) * 1024 for fields in lines if fields[0] == "Pss_Anon:")


def _tmpfs(processes: list[int]) -> int:
    """What the tmpfs hold that some process has mounted, each counted once; those below /dev are everybody's."""
    held: dict[str, int] = {}
    for number in processes:
        with suppress(OSError):
            for line in Path(f"/proc/{number}/mountinfo").read_text(errors="surrogateescape").splitlines():
                head, _, tail = line.partition(" - ")
                device, place = head.split()[2], head.split()[4]
                if tail.split()[0] == "tmpfs" and device not in held and not place.startswith("/dev/"):
                    place = place.replace("\\040", " ")
                    with suppress(OSError):
                        found = os.statvfs(f"/proc/{number}/root{place}")
                        held[device] = (found.f_blocks - found.f_bfree) * found.f_frsize
    return sum(held.values())


def _zram_devices() -> list[Path]:
    return list(Path("/sys/block").glob("zram*"))


def _stored(device: Path) -> int:
    """What a zram device takes (mem_used_total of mm_stat in Documentation/admin-guide/blockdev/zram.rst)."""
    with suppress(OSError):
        return int((device / "mm_stat").read_text().split()[2])
    return 0
