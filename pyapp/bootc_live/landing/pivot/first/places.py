"""Replace the root of a system, and take the file systems of the kernel along."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

from bootc_live.system.mounts import attach_tree, unmount
from bootc_live.system.system_call import libc_call

# What the kernel and devices show moves to the new root.
PLACES = ("proc", "sys", "dev", "run")
# All else in /run would tell the new system about services that have ended.
_KEPT_IN_RUN = ("bootc-live", "bootc-live-pivot.log", "udev", "host")


def make_places(root: str) -> None:
    """Make the directories of ``PLACES`` that a tree lacks; raise OSError, also if one is a link."""
    for name in PLACES:
        path = os.path.join(root, name)
        if not os.path.isdir(path) or os.path.islink(path):
            os.mkdir(path)


def switch_root(directory: int) -> None:
    """Make a mount point, an open directory, the root, with ``PLACES``; the old root lies over it at ".".

    No mount may be shared with other namespaces. Raise OSError.
    """
    moved = {name: os.open(f"/{name}", os.O_PATH | os.O_CLOEXEC) for name in PLACES}
    os.fchdir(directory)
    # What has the old root as its root or working directory moves along, the first process as well (pivot_root(2)).
    libc_call("pivot_root", b".", b".")
    for name, place in moved.items():
        attach_tree(place, f"/{name}")
        os.close(place)


def clear_run(run: str = "/run") -> None:
    """Remove from /run what belongs to the system that has ended, mounts first."""
    names = sorted(set(os.listdir(run)) - set(_KEPT_IN_RUN))
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split()[1] for line in file]
    for name in names:
        path = os.path.join(run, name)
        with suppress(OSError):
            for point in reversed(points):
                if f"{point}/".startswith(f"{path}/"):
                    unmount(point)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                # Python 3.11 would open a FIFO to remove it as a tree, and wait.
                os.unlink(path)
