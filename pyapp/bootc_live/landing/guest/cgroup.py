"""Delegate the control group of a container to its guest, by the rules of the kernel (cgroups(7), delegation)."""

from __future__ import annotations

import os

# All other files limit the group, and stay with whoever made it.
_DELEGATED = ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control")


def own_group(proc: str = "/proc/self") -> str | None:
    """Return the directory of this process's control group; None if there is no second version, or it is the top."""
    with open(f"{proc}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        group = next((line.rstrip("\n")[3:] for line in file if line.startswith("0::")), None)
    with open(f"{proc}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        # Of another namespace, a mount shows groups that this one cannot name.
        places = [line.split()[4] for line in file if " - cgroup2 " in line and line.split()[3] == "/"]
    if group is None or not places:
        return None
    path = os.path.normpath(f"{places[-1]}/{group}")
    # The top group of the machine has no type.
    return path if os.path.exists(os.path.join(path, "cgroup.type")) else None


def others_in(group: str, known: set[int]) -> bool:
    """Return whether there are more processes in a group than known ones. Raises OSError."""
    with open(os.path.join(group, "cgroup.procs"), encoding="ascii") as file:
        return not {int(line) for line in file} <= known


def delegate(group: str, uid: int, gid: int) -> None:
    """Give a group to a user. Raises OSError."""
    os.chown(group, uid, gid)
    for name in _DELEGATED:
        os.chown(os.path.join(group, name), uid, gid)
