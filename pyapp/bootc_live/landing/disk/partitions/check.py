"""Whether a disk or file may be used. Every refusal comes before anything is changed.

A disk is *empty* if libblkid finds no signature on it (a partition table, a file system, RAID, LVM, encryption …), the
kernel has no partitions on it, and its first and last MiB are zero. So a disk whose owner writes to the middle only is
taken for empty. One that came from the shop with a partition table is not.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from bootc_live.base.errors import ConfigError
from bootc_live.base.units import MIB
from bootc_live.landing.disk.partitions.choose import Target
from bootc_live.landing.disk.partitions.disks import Disk
from bootc_live.system.devices.partitions import can_have_partitions, kernel_name, kernel_name_of, partitions_of
from bootc_live.system.run import require_program, run

_CLASS = "/sys/class/block"
_WIPE = "destroy what is there with --wipe, or name another one"
_OTHER = "name another one"


def check_disk(disk: Disk) -> None:
    """Raise ConfigError if a block device cannot be used, whatever is on it; see ``about``."""
    if disk.kind == "part":
        raise ConfigError(
            "it is a partition, not a disk", hint=f"name /dev/{disk.parent}, or use 'install to-filesystem'"
        )
    if disk.uses:
        raise ConfigError(f"it is in use: {'; '.join(disk.uses)}", hint="unmount or stop that, or name another one")
    if disk.read_only:
        raise ConfigError("it is read-only", hint="remove its write protection, or name another one")
    if not can_have_partitions(kernel_name(disk.path)):
        raise ConfigError(
            f"it cannot have partitions: the kernel keeps none on devices of the type {disk.kind!r}",
            hint="name the disk below it, or use 'install to-filesystem'",
        )


def check_kept(target: Target, kept: Collection[str]) -> None:
    """Raise ConfigError if files or devices that must stay lie on the target, or are it; see ``about``."""
    for path in kept:
        if target.disk is None:
            same = target.exists and os.path.exists(path) and os.path.samefile(target.path, path)
        else:
            same = kernel_name(target.path) in _devices_below(path)
        if same:
            raise ConfigError(f"it holds {path!r}, which is needed", hint=_OTHER)


def check_space(target: Target, need: int) -> None:
    """Raise ConfigError if the file system of a file has less than ``need`` bytes for it; see ``about``."""
    if target.disk is None:
        usage = os.statvfs(os.path.dirname(target.path))
        free = usage.f_bavail * usage.f_frsize
        free += os.stat(target.path).st_blocks * 512 if target.exists else 0
        if free < need:
            raise ConfigError(
                f"it has too little space: {need // MIB} MiB are needed, and its file system has {free // MIB} MiB",
                hint="free space there, or name another path",
            )


def check_empty(target: Target, fd: int) -> None:
    """Raise ConfigError if an open target is not empty; see ``about``."""
    if target.disk is None and not _has_data(fd):
        return
    found = list(dict.fromkeys(_signatures(target.path)))
    if target.disk is not None and partitions_of(kernel_name(target.path)):
        found.append("partitions")
    if not found:
        size = os.lseek(fd, 0, os.SEEK_END)
        found += [f"data in its {place} MiB" for place, at in (("first", 0), ("last", size - MIB)) if _nonzero(fd, at)]
    if found:
        raise ConfigError(f"it is not empty; it has: {', '.join(found)}", hint=_WIPE)


@contextmanager
def busy_named() -> Iterator[None]:
    """Raise EBUSY of opening or locking in the block as a ConfigError; see ``about``."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise ConfigError(
            "it is in use by another program, or mounted in another namespace",
            hint="stop that (fuser and lsof may find it), or name another one",
        ) from error


def check_no_loop(path: str) -> None:
    """Raise ConfigError if a loop device has a file; see ``about``."""
    losetup = require_program("losetup", "see whether a file is in use", "util-linux")
    if found := run([losetup, "--noheadings", "--output", "NAME", "--associated", path]).split():
        raise ConfigError(
            f"it is in use by {', '.join(found)}", hint=f"detach it (losetup -d {found[0]}), or name another file"
        )


def _signatures(path: str) -> Iterator[str]:
    wipefs = require_program("wipefs", "see whether a disk is empty", "util-linux")
    said = run([wipefs, "--no-act", "--json", path], hint="look at the kernel log (dmesg)")
    for found in json.loads(said)["signatures"] if said.strip() else ():
        yield found["type"]


def _has_data(fd: int) -> bool:
    try:
        os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as error:
        # ENXIO: holes only. File systems without holes say that all is data.
        return error.errno != errno.ENXIO
    return True


def _nonzero(fd: int, offset: int) -> bool:
    return any(os.pread(fd, MIB, max(offset, 0)))


def _devices_below(path: str) -> set[str]:
    """Return the names of the devices that a file lies on, or that a device is made of."""
    try:
        status = os.stat(path)
        number = status.st_rdev if stat.S_ISBLK(status.st_mode) else status.st_dev
        return set(_made_of(kernel_name_of(number)))
    except OSError:
        # Not there, or not on a block device.
        return set()


def _made_of(name: str) -> Iterator[str]:
    yield name
    folder = os.path.realpath(f"{_CLASS}/{name}")
    if os.path.exists(f"{folder}/partition"):
        yield from _made_of(os.path.basename(os.path.dirname(folder)))
    if os.path.isdir(f"{folder}/slaves"):
        for below in os.listdir(f"{folder}/slaves"):
            yield from _made_of(below)
    if os.path.exists(f"{folder}/loop/backing_file"):
        with open(f"{folder}/loop/backing_file", encoding="utf-8") as file:
            yield from _devices_below(file.read().rstrip("\n"))
