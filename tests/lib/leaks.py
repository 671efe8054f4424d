"""What a verb can leave behind: mounts, loop devices, processes, files.

Meant for the private mount and process namespaces of the integration tests, where all that appears is ours. Loop
devices alone are shared with the whole machine, so only those that must be ours count, see `_loops`.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

SETTLE_SECONDS: Final = 60.0
_STEP: Final = 0.02
# Temporary names of the program, wherever it was told to work.
_OWN_NAMES: Final = ("bootc-live.", ".bootc-live.", "bootc-live-ca.")
_RUN: Final = Path("/run")


@dataclass(frozen=True)
class Snapshot:
    """What there is at one moment; every element is a text that names one thing."""

    mounts: frozenset[str]
    loops: frozenset[str]
    processes: frozenset[str]
    files: frozenset[str]


def snapshot(where: Path) -> Snapshot:
    """What there is now; files of the program are looked for all over the directory `where`."""
    return Snapshot(frozenset(_mounts()), frozenset(_loops()), frozenset(_processes()), frozenset(_files(where)))


def left_behind(before: Snapshot, after: Snapshot) -> list[str]:
    """What is in `after` and was not in `before`, and mounts that went away."""
    found = []
    for kind in (field.name for field in fields(Snapshot)):
        found += [f"{kind}: {name}" for name in sorted(getattr(after, kind) - getattr(before, kind))]
    return found + [f"mounts: lost {name}" for name in sorted(before.mounts - after.mounts)]


def settled(where: Path, before: Snapshot, seconds: float = SETTLE_SECONDS) -> list[str]:
    """What is left behind once things had time to go: loop devices clear themselves after their last close."""
    first = left_behind(before, snapshot(where))
    left, deadline = first, time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        time.sleep(_STEP)
        now = left_behind(before, snapshot(where))
        # What is new since the first look is somebody else's.
        left = [name for name in now if name in first]
    return left


@contextmanager
def nothing_left(where: Path, seconds: float = SETTLE_SECONDS) -> Iterator[None]:
    """Raises AssertionError if the block, which works below `where`, leaves anything behind or fails by itself."""
    before = snapshot(where)
    yield
    left = settled(where, before, seconds)
    assert not left, "left behind:\n" + "\n".join(left)


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        head, _, tail = line.partition(" - ")
        # The mount's number tells a second mount of the same thing from the first.
        yield f"{tail.split()[1]} ({tail.split()[0]}) on {head.split()[4]}, number {head.split()[0]}"


def _loops() -> Iterator[str]:
    """Those that do not clear themselves, which none of our programs makes, and those that this process has open.

    One that clears itself and is there belongs to a mount or a process. All of ours are seen as such; the rest belongs
    to other tests of this machine.
    """
    open_here = set(_open_devices())
    for device in Path("/sys/block").glob("loop*"):
        with suppress(OSError):
            clears_itself = (device / "loop/autoclear").read_text().strip() == "1"
            if not clears_itself or (device / "dev").read_text().strip() in open_here:
                backing = (device / "loop/backing_file").read_text().strip()
                # The sequence number is new for every attachment.
                yield f"{device.name}, attachment {(device / 'diskseq').read_text().strip()}, of {backing}"


def _open_devices() -> Iterator[str]:
    """The devices that this process has open, or files on them."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            status = os.fstat(int(name))
            for number in (status.st_dev, status.st_rdev):
                yield f"{os.major(number)}:{os.minor(number)}"


def _processes() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if state[0] != "Z":
                    yield f"{command or '(no name)'}, number {entry.name}, of {state[19]}"


def _files(where: Path) -> Iterator[str]:
    for top in {Path(tempfile.gettempdir()), Path("/var/tmp"), _RUN}:
        yield from (str(path) for path in top.iterdir())
    yield from (str(path) for path in (_RUN / "bootc-live").rglob("*"))
    for place, directories, names in os.walk(where):
        for name in [*directories, *names]:
            if name.startswith(_OWN_NAMES) or name.endswith(".part"):
                yield os.path.join(place, name)
