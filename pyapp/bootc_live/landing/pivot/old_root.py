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
    """Bind the running root, and file systems mounted in it, to a directory below ``root``; raise LandingError."""
    try:
        place = directory_below(root, where.strip("/"))
    except OSError as error:
        raise LandingError(
            f"'--keep-old-root={where}' cannot be made in the image: {error.strerror}", hint="name another directory"
        ) from error
    if place == root:
        raise LandingError(f"'--keep-old-root={where}' would cover the new root", hint="name a directory, /mnt/oldroot")
    with unmounted_after(place):
        for target in ("/", *_mounts(mountinfo)):
            bind(target, os.path.join(place, target.lstrip("/")).rstrip("/"), hint="leave --keep-old-root out")
        yield


def _mounts(mountinfo: str) -> list[str]:
    """Return where other file systems of the system are mounted, the outer ones first (proc_pid_mountinfo(5))."""
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        found = {line.split(" ")[4] for line in file}
    # What the kernel and services show there is not of the old root, and the new one has its own.
    apart = tuple(f"/{name}/" for name in ("dev", "proc", "run", "sys", "tmp"))
    return sorted(target for target in found if not f"{target}/".startswith(apart) and target != "/")
