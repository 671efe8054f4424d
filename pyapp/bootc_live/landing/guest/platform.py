"""Look at the container: its platform, what it may do, and which devices and interfaces it was given."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from bootc_live.config.guest.model import SetupMode

# What platforms say in the variable container.
_PLATFORMS = {
    "lxc-libvirt": SetupMode.LXC_LIBVIRT,
    "systemd-nspawn": SetupMode.NSPAWN,
    "lxc": SetupMode.LXC,
    "podman": SetupMode.PODMAN,
    "docker": SetupMode.PODMAN,
    "oci": SetupMode.PODMAN,
}
# Files of those that do not always set it.
_MARKS = ("/run/.containerenv", "/.dockerenv")
# By their numbers of capabilities(7).
CHOWN, DAC_OVERRIDE, SETGID, SETUID, NET_ADMIN, SYS_CHROOT, SYS_ADMIN = 0, 1, 6, 7, 12, 18, 21
_NAMES = {
    CHOWN: "CAP_CHOWN",
    DAC_OVERRIDE: "CAP_DAC_OVERRIDE",
    SETGID: "CAP_SETGID",
    SETUID: "CAP_SETUID",
    NET_ADMIN: "CAP_NET_ADMIN",
    SYS_CHROOT: "CAP_SYS_CHROOT",
    SYS_ADMIN: "CAP_SYS_ADMIN",
}
# Only the machine's own network namespace has this setting.
_OF_THE_MACHINE = "/proc/sys/net/core/dev_weight"
# Every new /dev has its own of these. Incus, and LXC for nested containers, mount /proc and /sys in .lxc.
_OWN = {"pts", "shm", "mqueue", "hugepages", "fd", "console", "ptmx", "tty", "char", "block", "disk", "mapper", ".lxc"}


def platform(mode: SetupMode, environment: Mapping[str, str]) -> SetupMode:
    """Return the platform of a container; NONE if there is none, or nobody knows."""
    if mode is not SetupMode.AUTO:
        return mode
    if "container" not in environment and any(map(os.path.exists, _MARKS)):
        return SetupMode.PODMAN
    return _PLATFORMS.get(environment.get("container", ""), SetupMode.NONE)


def lacking(wanted: tuple[int, ...], status: str = "/proc/self/status") -> list[str]:
    """Return the names of capabilities that this process does not have. Raises OSError."""
    with open(status, encoding="ascii") as file:
        held = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    return [_NAMES[each] for each in wanted if not held >> each & 1]


def has_own_network() -> bool:
    """Return whether the network is that of the container, and not that of the machine."""
    return not os.path.exists(_OF_THE_MACHINE)


def given_devices(dev: str = "/dev") -> list[str]:
    """Return the names of the devices that a container has, as far as they are not in every /dev."""
    found = []
    for top, directories, names in os.walk(dev):
        inner = os.path.relpath(top, dev)
        directories[:] = [name for name in directories if os.path.normpath(f"{inner}/{name}") not in _OWN]
        for name in names:
            path = os.path.normpath(f"{inner}/{name}")
            mode = os.lstat(os.path.join(top, name)).st_mode
            if path not in _OWN and (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
                found.append(path)
    return found
