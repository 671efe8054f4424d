"""A cgroup of a guest's own."""

import os
import time
from pathlib import Path
from typing import Final

_PREFIX: Final = "vm-guest-"
_PATIENCE: Final = 60.0


def parent() -> Path:
    """Return the directory of this process's cgroup in the unified hierarchy; raises OSError if there is none."""
    own = next((line[3:] for line in _lines("/proc/self/cgroup") if line.startswith("0::")), "/")
    for line in _lines("/proc/self/mountinfo"):
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            directory = Path(fields[4]) / os.path.relpath(own, fields[3])
            if os.access(directory / "cgroup.procs", os.W_OK):
                return directory
    raise FileNotFoundError("no cgroup2 hierarchy is mounted here that this process can write to")


def make() -> Path:
    """Make a cgroup, and return its directory; removes those that ended processes left."""
    top = parent()
    for left in top.glob(f"{_PREFIX}*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path("/proc", owner).exists():
            remove(left, 0)
    number = 0
    while True:
        try:
            made = top / f"{_PREFIX}{os.getpid()}-{number}"
            made.mkdir()
            return made
        except FileExistsError:
            number += 1


def remove(directory: Path, patience: float = _PATIENCE) -> None:
    """Kill what is left in a cgroup and those below, and remove them.

    Raises OSError if something is still there after ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    while directory.exists():
        try:
            (directory / "cgroup.kill").write_text("1")
            for path, _, _ in os.walk(directory, topdown=False):
                os.rmdir(path)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
