"""What a verb can leave behind: mounts, loop devices, processes, files.

Meant for the private mount and process namespaces of the integration tests, where all that appears is ours. Loop
devices alone are shared with the whole machine: an attachment counts as left behind only if that very one is still
there after a while.
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

SETTLE_SECONDS: Final = 10.0
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


def snapshot() -> Snapshot:
    """What there is now."""
    return Snapshot(frozenset(_mounts()), frozenset(_loops()), frozenset(_processes()), frozenset(_files()))


def left_behind(before: Snapshot, after: Snapshot) -> list[str]:
    """What is in `after` and was not in `before`, and mounts that went away."""
    found = []
    for kind in (field.name for field in fields(Snapshot)):
        found += [f"{kind}: {name}" for name in sorted(getattr(after, kind) - getattr(before, kind))]
    return found + [f"mounts: lost {name}" for name in sorted(before.mounts - after.mounts)]


def settled(before: Snapshot, seconds: float = SETTLE_SECONDS) -> list[str]:
    """What is left behind once things had time to go: loop devices clear themselves after their last close."""
    first = left_behind(before, snapshot())
    left, deadline = first, time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        time.sleep(_STEP)
        now = left_behind(before, snapshot())
        # What is new since the first look is somebody else's.
        left = [name for name in now if name in first]
    return left


@contextmanager
def nothing_left(seconds: float = SETTLE_SECONDS) -> Iterator[None]:
    """Raises AssertionError if the block leaves anything behind, unless it fails by itself."""
    before = snapshot()
    yield
    left = settled(before, seconds)
    assert not left, "left behind:\n" + "\n".join(left)


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        head, _, tail = line.partition(" - ")
        # The mount's number tells a second mount of the same thing from the first.
        yield f"{tail.split()[1]} ({tail.split()[0]}) on {head.split()[4]}, number {head.split()[0]}"


def _loops() -> Iterator[str]:
    for device in Path("/sys/block").glob("loop*"):
        with suppress(OSError):
            backing = (device / "loop/backing_file").read_text().strip()
            # The sequence number is new for every attachment.
            yield f"{device.name}, attachment {(device / 'diskseq').read_text().strip()}, of {backing}"


def _processes() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if state[0] != "Z":
                    yield f"{command or '(no name)'}, number {entry.name}, of {state[19]}"


def _files() -> Iterator[str]:
    tests = tempfile.gettempdir()
    for top in {Path(tempfile.gettempdir()), Path("/var/tmp"), _RUN}:
        yield from (str(path) for path in top.iterdir())
    yield from (str(path) for path in (_RUN / "bootc-live").rglob("*"))
    for place, directories, names in os.walk(tests):
        for name in [*directories, *names]:
            if name.startswith(_OWN_NAMES) or name.endswith(".part"):
                yield os.path.join(place, name)
