"""Which deployment runs."""

from __future__ import annotations

import re

_ETC = re.compile(r"(?:/[^/]+)*/bootc-live/deployments/([1-9][0-9]{0,8})/etc")


def running_deployment(mountinfo: str = "/proc/self/mountinfo") -> int | None:
    """Return the deployment whose /etc this system has; None if it has that of nothing on a disk.

    The kernel command line and files say what was started once. What is mounted says what runs, also after a soft
    reboot into another deployment, and after a pivot into RAM. See proc_pid_mountinfo(5). Raise OSError.
    """
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        mounts = [line.split(" ", 5)[3:5] for line in file]
    # With the state "volatile", an overlay is above it.
    found = [_ETC.fullmatch(top) for top, place in mounts if place == "/etc"]
    return next((int(each[1]) for each in reversed(found) if each), None)
