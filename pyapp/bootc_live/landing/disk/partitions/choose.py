"""Which disk or file is meant."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from bootc_live.base.errors import ConfigError
from bootc_live.base.units import MIB, mib
from bootc_live.landing.disk.partitions.disks import Disk, all_disks, disk_at, listing
from bootc_live.system.devices.exclusive import is_claimed

# Of a disk in a file.
FILE_SECTOR = 512
# 64 TiB: few file systems have larger files, and making this one takes seconds.
_LARGEST_FILE = 2**46
_ONE_WAY = "name it by one of: its path, --serial, --smallest"


@dataclass(frozen=True)
class DiskChoice:
    """How a disk was chosen: by exactly one of path, serial number or ``smallest``; ``size`` is for a file."""

    path: str | None = None
    serial: str | None = None
    smallest: bool = False
    size: int | None = None


@dataclass(frozen=True)
class Target:
    """A disk, or a file that holds or will hold one; ``typed`` is how it was named."""

    typed: str
    path: str
    size: int
    sector: int = FILE_SECTOR
    disk: Disk | None = None
    exists: bool = True


def choose_target(choice: DiskChoice, disks: Callable[[], list[Disk]] = all_disks) -> Target:
    """Return the disk or file that is meant; nothing is opened for writing. Raise ConfigError and RunError."""
    ways = (choice.path is not None, choice.serial is not None, choice.smallest)
    if sum(ways) != 1:
        problem = "a disk is chosen in more than one way" if any(ways) else "no disk is named"
        raise ConfigError(f"{problem}; disks: {listing(disks())}", hint=_ONE_WAY)
    if choice.path is not None:
        return _by_path(choice.path, choice.size, disks)
    disk = _smallest(disks()) if choice.serial is None else _by_serial(choice.serial, disks())
    return _on_disk(disk.path, disk, choice.size)


def _by_path(typed: str, size: int | None, disks: Callable[[], list[Disk]]) -> Target:
    path = os.path.realpath(typed)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if path.startswith("/dev/"):
            raise ConfigError(
                f"there is no disk {typed!r}; disks: {listing(disks())}", hint="name one of those, or connect it"
            ) from None
        if not os.path.isdir(os.path.dirname(path)):
            raise ConfigError(f"{typed!r} is in no directory", hint="make that, or correct the path") from None
        return Target(typed, path, _file_size(typed, size, 0), exists=False)
    except OSError as error:
        raise ConfigError(f"{typed!r} cannot be used: {error.strerror}", hint="correct the path") from error
    if stat.S_ISBLK(status.st_mode):
        return _on_disk(typed, disk_at(path), size)
    if stat.S_ISREG(status.st_mode):
        return Target(typed, path, _file_size(typed, size, status.st_size))
    hint = "use 'install to-filesystem' for a directory" if stat.S_ISDIR(status.st_mode) else "name a disk or a file"
    raise ConfigError(f"{typed!r} is neither a disk nor a regular file", hint=hint)


def _on_disk(typed: str, disk: Disk, size: int | None) -> Target:
    if size is not None:
        raise ConfigError(f"{typed!r} is a disk, and has its own size", hint="leave out --size")
    return Target(typed, disk.path, disk.size, disk.sector, disk)


def _file_size(typed: str, wanted: int | None, present: int) -> int:
    """Return the size of a disk in a file; raise ConfigError."""
    size = present if wanted is None else wanted
    if not size:
        raise ConfigError(f"{typed!r} has no size", hint="say how large the disk in this file is: --size 8G")
    if size > _LARGEST_FILE:
        raise ConfigError(f"{typed!r}: {mib(size)} are too much for a file", hint="use a smaller --size, at most 64T")
    if size % MIB:
        raise ConfigError(f"{typed!r}: {size} bytes are no whole number of MiB", hint=f"use --size {size // MIB + 1}M")
    return size


def _by_serial(serial: str, disks: list[Disk]) -> Disk:
    found = [disk for disk in disks if disk.serial == serial]
    if not found:
        raise ConfigError(f"no disk has the serial number {serial!r}; disks: {listing(disks)}", hint="correct --serial")
    if len(found) > 1:
        raise ConfigError(
            f"more than one disk has the serial number {serial!r}: {listing(found)}",
            hint="name the path of one, such as a link in /dev/disk/by-id",
        )
    return found[0]


def _smallest(disks: list[Disk]) -> Disk:
    usable = [disk for disk in disks if not unusable(disk)]
    if not usable:
        refused = "; ".join(f"{disk}: {unusable(disk)}" for disk in disks) or "this machine has none"
        raise ConfigError(f"no disk can be chosen by --smallest; disks: {refused}", hint="name the path of a disk")
    least = min(disk.size for disk in usable)
    found = [disk for disk in usable if disk.size == least]
    if len(found) > 1:
        raise ConfigError(
            f"more than one disk is the smallest, with {mib(least)}: {listing(found)}", hint="name the path of one"
        )
    return found[0]


def unusable(disk: Disk) -> str | None:
    """Return why --smallest passes over a disk, or None."""
    if not disk.size:
        return "it is empty"
    if disk.removable:
        return "it is removable"
    if disk.read_only:
        return "it is read-only"
    try:
        return "it is in use" if disk.uses or is_claimed(disk.path) else None
    except OSError as error:
        return f"it cannot be opened: {error.strerror}"
