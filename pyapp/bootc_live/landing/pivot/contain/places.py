"""What a system needs below its root and does not bring: /proc, /sys, /dev and /run, made anew."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from bootc_live.base.paths import resolve_below
from bootc_live.system.namespaces import NODEV, NOEXEC, NOSUID, RDONLY, bind_at, make_read_only, mount_at

_NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_LINKS = (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"))
_MORE_LINKS = (("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx"), ("core", "/proc/kcore"))
_TUN = "/dev/net/tun"


def make_places(root: str, *, host_network: bool) -> None:
    """Mount all of them below ``root``, for a process with namespaces of its own; raise OSError.

    What would change the machine is read-only. ``host_network`` says that its network is the machine's: then the kernel
    shows /sys only as it is.
    """
    proc = _place(root, "proc")
    mount_at("proc", "proc", proc, NOSUID | NODEV | NOEXEC)
    settings = os.path.join(proc, "sys")
    bind_at(settings, settings)
    if not host_network:
        bind_at(os.path.join(settings, "net"), os.path.join(settings, "net"))
    make_read_only(settings)
    with suppress(FileNotFoundError):
        bind_at("/dev/null", os.path.join(proc, "sysrq-trigger"))
    _make_sys(_place(root, "sys"), host_network=host_network)
    mount_at("tmpfs", "tmpfs", _place(root, "run"), NOSUID | NODEV, "mode=755")
    _make_dev(_place(root, "dev"))


def _make_sys(sys: str, *, host_network: bool) -> None:
    if host_network:
        bind_at("/sys", sys)
        make_read_only(sys)
    else:
        mount_at("sysfs", "sysfs", sys, NOSUID | NODEV | NOEXEC | RDONLY)
    # Without it, systemd makes do.
    with suppress(OSError):
        mount_at("cgroup2", "cgroup2", os.path.join(sys, "fs/cgroup"), NOSUID | NODEV | NOEXEC)


def _make_dev(dev: str) -> None:
    console = os.ttyname(0) if os.isatty(0) else None
    held = os.open(console, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC) if console else None
    mount_at("tmpfs", "tmpfs", dev, NOSUID, "mode=755")
    for name, major, minor in _NODES:
        _node(os.path.join(dev, name), major, minor)
    for name in ("pts", "shm", "mqueue", "net"):
        os.mkdir(os.path.join(dev, name))
    mount_at("devpts", "devpts", os.path.join(dev, "pts"), NOSUID | NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5")
    mount_at("tmpfs", "tmpfs", os.path.join(dev, "shm"), NOSUID | NODEV, "mode=1777")
    mount_at("mqueue", "mqueue", os.path.join(dev, "mqueue"), NOSUID | NODEV | NOEXEC)
    for name, target in (*_LINKS, *_MORE_LINKS):
        os.symlink(target, os.path.join(dev, name))
    if os.path.exists(_TUN):
        _node(os.path.join(dev, "net/tun"), 10, 200)
    if held is not None:
        with open(os.path.join(dev, "console"), "xb"):
            pass
        bind_at(f"/proc/self/fd/{held}", os.path.join(dev, "console"))
        os.close(held)


def _node(path: str, major: int, minor: int) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    os.chmod(path, 0o666)  # noqa: S103


def _place(root: str, name: str) -> str:
    """Return where a place is: in some images it is a link."""
    found = resolve_below(root, name)
    if found is None:
        found = os.path.join(root, name)
        os.mkdir(found, 0o755)
    return found
