"""What a system needs below its root and does not bring: /proc, /sys and /dev, made anew."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from bootc_live.base.paths import resolve_below
from bootc_live.system.mounts import detached_mount
from bootc_live.system.namespaces import (
    NEWNET,
    NODEV,
    NOEXEC,
    NOSUID,
    RDONLY,
    bind_at,
    enter,
    make_read_only,
    mount_at,
)

_NODES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
_OF_SYS = NOSUID | NODEV | NOEXEC | RDONLY
_TUN = "net/tun"
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
    "core": "/proc/kcore",
}
_PTS_OPTIONS = "newinstance,ptmxmode=0666,mode=620"
# The group tty of nearly all systems.
_TTY_GROUP = ",gid=5"


@dataclass(frozen=True)
class Devices:
    """What is in a new /dev: its owner, names that are left out, and further devices, by name, as they are here."""

    uid: int = 0
    gid: int = 0
    excluded: Collection[str] = ()
    more: Collection[str] = ()

    def wanted(self, name: str) -> bool:
        """Return whether a device, or a directory above it, is not left out."""
        parts = name.split("/")
        return not any("/".join(parts[: end + 1]) in self.excluded for end in range(len(parts)))


def place_below(root: str, name: str) -> str:
    """Return where a directory is, which may be a link in some images, and make it if it is missing; raise OSError."""
    found = resolve_below(root, name)
    if found is None:
        found = os.path.join(root, name)
        os.mkdir(found, 0o755)
    return found


def make_proc(proc: str, *, host_network: bool) -> None:
    """Mount the processes of this namespace; what would change the machine is read-only. Raise OSError."""
    mount_at("proc", "proc", proc, NOSUID | NODEV | NOEXEC)
    settings = os.path.join(proc, "sys")
    bind_at(settings, settings)
    if not host_network:
        bind_at(os.path.join(settings, "net"), os.path.join(settings, "net"))
    make_read_only(settings)
    with suppress(FileNotFoundError):
        bind_at("/dev/null", os.path.join(proc, "sysrq-trigger"))


def make_sys(sys: str) -> None:
    """Mount what the kernel shows of devices and of this network namespace, read-only. Raise OSError."""
    mount_at("sysfs", "sysfs", sys, _OF_SYS)


def open_sys(network: str) -> int:
    """Return the descriptor of such a mount for a network namespace, a file of /proc; this process enters it.

    For a process that a user namespace does not allow to mount it. Raise OSError.
    """
    enter(network, NEWNET)
    return detached_mount("sysfs", _OF_SYS)


def make_cgroups(sys: str) -> None:
    """Mount the control groups of this namespace below /sys; do nothing where that is impossible."""
    # Without it, systemd makes do.
    with suppress(OSError):
        mount_at("cgroup2", "cgroup2", os.path.join(sys, "fs/cgroup"), NOSUID | NODEV | NOEXEC)


def make_devices(dev: str, devices: Devices) -> None:
    """Mount a tmpfs with devices, and with a console if standard input is one. Raise OSError."""
    console = os.ttyname(0) if os.isatty(0) else None
    held = os.open(console, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC) if console else None
    # Others than root own only what is in it.
    mount_at("tmpfs", "tmpfs", dev, NOSUID, f"mode=755,uid={devices.uid},gid={devices.gid}")
    for name in ("pts", "shm", "mqueue", "net"):
        _directory(os.path.join(dev, name), devices)
    for name, (major, minor) in _NODES.items():
        if devices.wanted(name):
            _node(dev, name, os.makedev(major, minor), devices)
    for name, target in _LINKS.items():
        os.symlink(target, os.path.join(dev, name))
        os.lchown(os.path.join(dev, name), devices.uid, devices.gid)
    if os.path.exists(f"/dev/{_TUN}") and devices.wanted(_TUN):
        _node(dev, _TUN, os.makedev(10, 200), devices)
    for name in sorted(devices.more):
        if devices.wanted(name) and not os.path.lexists(os.path.join(dev, name)):
            _bind(f"/dev/{name}", dev, name, devices)
    if held is not None:
        if devices.wanted("console"):
            _bind(f"/proc/self/fd/{held}", dev, "console", devices)
        os.close(held)


def make_device_file_systems(dev: str) -> None:
    """Mount the file systems in /dev, for this process's namespaces. Raise OSError."""
    pts = os.path.join(dev, "pts")
    try:
        mount_at("devpts", "devpts", pts, NOSUID | NOEXEC, _PTS_OPTIONS + _TTY_GROUP)
    except OSError:
        # A user namespace may not have this group.
        mount_at("devpts", "devpts", pts, NOSUID | NOEXEC, _PTS_OPTIONS)
    mount_at("tmpfs", "tmpfs", os.path.join(dev, "shm"), NOSUID | NODEV, "mode=1777")
    mount_at("mqueue", "mqueue", os.path.join(dev, "mqueue"), NOSUID | NODEV | NOEXEC)


def make_run(run: str) -> None:
    """Mount an empty /run. Raise OSError."""
    mount_at("tmpfs", "tmpfs", run, NOSUID | NODEV, "mode=755")


def _node(dev: str, name: str, number: int, devices: Devices) -> None:
    path = os.path.join(dev, name)
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, number)
    except PermissionError:
        # Containers may make none, and have these.
        _bind(f"/dev/{name}", dev, name, devices)
        return
    os.chmod(path, 0o666)  # noqa: S103
    os.chown(path, devices.uid, devices.gid)


def _bind(source: str, dev: str, name: str, devices: Devices) -> None:
    """Show a device of this system under a name in another /dev."""
    parts = name.split("/")
    for end in range(1, len(parts)):
        directory = os.path.join(dev, *parts[:end])
        if not os.path.isdir(directory):
            _directory(directory, devices)
    path = os.path.join(dev, name)
    with open(path, "xb"):
        pass
    bind_at(source, path)


def _directory(path: str, devices: Devices) -> None:
    os.mkdir(path, 0o755)
    os.chown(path, devices.uid, devices.gid)
