"""Show the old root below the new one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.errors import LandingError
from bootc_live.base.paths import directory_below
from bootc_live.system.mounts import bind, unmounted_after

DEFAULT = "/mnt/oldroot"


@contextmanager
def show_old_root(root: str, where: str, mountinfo: str = "/proc/self/mountinfo") -> Iterator[None]:
    """Bind the running root, and file systems of disks below it, to a directory below ``root``; raise LandingError."""
    try:
        place = directory_below(root, where.strip("/"))
    except OSError as error:
        raise LandingError(
            f"'--keep-old-root={where}' cannot be made in the image: {error.strerror}", hint="name another directory"
        ) from error
    with unmounted_after(place):
        for target in ("/", *_on_disks(mountinfo)):
            bind(target, os.path.join(place, target.lstrip("/")).rstrip("/"), hint="leave --keep-old-root out")
        yield


def _on_disks(mountinfo: str) -> list[str]:
    """Return where file systems of block devices are mounted, the outer ones first (proc_pid_mountinfo(5))."""
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        fields = [line.split(" ") for line in file]
    found = {entry[4] for entry in fields if entry[entry.index("-") + 2].startswith("/dev/") and "\\" not in entry[4]}
    apart = ("/run/", "/proc/", "/sys/", "/dev/")
    return sorted(target for target in found if target != "/" and not target.startswith(apart))
