"""What this host has for a root: memory, compressions, zram."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from bootc_live.base.errors import RootfsError
from bootc_live.config.model import Backing, Compression
from bootc_live.rootfs.layouts.erofs.compressor import compressor
from bootc_live.rootfs.memory.machine import Room
from bootc_live.rootfs.memory.need import StorageOption
from bootc_live.system.memory import available_bytes, total_bytes

_ZRAM = "/sys/class/zram-control"
_IN_RAM = frozenset({"tmpfs", "ramfs", "rootfs"})


@dataclass(frozen=True)
class Means:
    """What can be done here: compressions of the erofs layout, and whether the kernel has zram.

    ``obstacle`` says why the kernel cannot mount the image of a way, and nothing where it can.
    """

    compressions: frozenset[Compression]
    zram: bool
    obstacle: Callable[[StorageOption], str] = lambda _way: ""


def present_room(backing: Backing, directory: str | None = None) -> Room:
    """Return the room on this machine as it is now; ``directory`` is where to build, where somebody chose that.

    Where the backing is said, too, there will be a file system in RAM in that directory.
    """
    room = Room(available_bytes(), total_bytes(), backing)
    if directory is None or backing != Backing():
        return room
    usage = os.statvfs(directory)
    return replace(room, free=usage.f_bavail * usage.f_frsize, on_disk=kind_of(directory) not in _IN_RAM)


def kind_of(path: str, mountinfo: str = "/proc/self/mountinfo") -> str:
    """Return the type of the file system that a path lies on (proc_pid_mountinfo(5)), or nothing."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        lines = (line.split(" ") for line in file)
        return next((fields[fields.index("-") + 1] for fields in lines if fields[2] == number), "")


def present_means(zram: str = _ZRAM, modules: str | None = None) -> Means:
    """Return what can be done on this system; ``zram`` is the kernel's control directory, ``modules`` that of modules.

    What the kernel can mount is left open: images are also made for others.
    """
    able = frozenset(each for each in Compression if _loads(each))
    return Means(able, os.path.isdir(zram) or _has_module(modules or f"/lib/modules/{os.uname().release}", "zram"))


def _loads(compression: Compression) -> bool:
    if compression is Compression.NONE:
        return True
    try:
        compressor(compression, 1)
    except RootfsError:
        return False
    return True


def _has_module(directory: str, name: str) -> bool:
    """Look a module up in what depmod(8) wrote."""
    try:
        with open(os.path.join(directory, "modules.dep"), encoding="utf-8", errors="replace") as file:
            return any(os.path.basename(line.partition(":")[0]).partition(".")[0] == name for line in file)
    except OSError:
        return False
