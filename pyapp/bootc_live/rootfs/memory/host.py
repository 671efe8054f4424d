"""Find out what this host has for a root: memory, compressions, zram."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from bootc_live.base.errors import RootfsError
from bootc_live.config.model import Backing, Compression
from bootc_live.rootfs.layouts.erofs.compressor import compressor
from bootc_live.rootfs.memory.need import StorageOption
from bootc_live.system.memory import available_bytes, total_bytes

_ZRAM = "/sys/class/zram-control"
_IN_RAM = frozenset({"tmpfs", "ramfs", "rootfs"})


@dataclass(frozen=True)
class MemoryRoom:
    """Available memory before anything is fetched and MemTotal, in bytes, and the limits that were set.

    If the image is built in a directory that the user chose, ``free`` is the space there, and ``on_disk`` tells whether
    it is outside RAM.
    """

    available: int
    total: int
    backing: Backing
    free: int | None = None
    on_disk: bool = False


@dataclass(frozen=True)
class Means:
    """What is possible here: compressions of the erofs layout, and whether the kernel has zram.

    ``obstacle`` returns why the kernel cannot mount the image of an option, or an empty string.
    """

    compressions: frozenset[Compression]
    zram: bool
    obstacle: Callable[[StorageOption], str] = lambda _option: ""


def present_room(backing: Backing, directory: str | None = None) -> MemoryRoom:
    """Return the room on this machine now; ``directory`` is where to build, if the user chose that.

    If a backing was chosen, too, a file system in RAM will be mounted in that directory.
    """
    room = MemoryRoom(available_bytes(), total_bytes(), backing)
    if directory is None or backing != Backing():
        return room
    usage = os.statvfs(directory)
    return replace(room, free=usage.f_bavail * usage.f_frsize, on_disk=kind_of(directory) not in _IN_RAM)


def kind_of(path: str, mountinfo: str = "/proc/self/mountinfo") -> str:
    """Return the type of the file system of a path (proc_pid_mountinfo(5)), or an empty string."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        lines = (line.split(" ") for line in file)
        return next((fields[fields.index("-") + 1] for fields in lines if fields[2] == number), "")


def present_means(zram: str = _ZRAM, modules: str | None = None) -> Means:
    """Return what is possible on this system; ``zram`` is the kernel's control directory, ``modules`` that of modules.

    What the kernel can mount is not checked: images are also made for other machines.
    """
    loadable = frozenset(compression for compression in Compression if _loads(compression))
    return Means(loadable, os.path.isdir(zram) or _has_module(modules or f"/lib/modules/{os.uname().release}", "zram"))


def _loads(compression: Compression) -> bool:
    if compression is Compression.NONE:
        return True
    try:
        compressor(compression, 1)
    except RootfsError:
        return False
    return True


def _has_module(directory: str, name: str) -> bool:
    """Look up a module in the list of depmod(8)."""
    try:
        with open(os.path.join(directory, "modules.dep"), encoding="utf-8", errors="replace") as file:
            return any(os.path.basename(line.partition(":")[0]).partition(".")[0] == name for line in file)
    except OSError:
        return False
