"""The partitions of a disk as the kernel knows them: told by BLKPG, not read from the disk.

So there is nothing to wait for, a kernel that cannot read the table is enough, and loop devices need no special mode.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import time

from bootc_live.base.numbers import LARGEST_SIZE, decimal

_BLKPG, _ADD, _REMOVE = 0x1269, 1, 2
# struct blkpg_ioctl_arg: operation, flags, size and address of struct blkpg_partition.
# That: start, length, number, two names.
_REQUEST, _PARTITION = struct.Struct("iiiP"), struct.Struct("qqi128x0q")
_CLASS = "/sys/class/block"
# A partition is busy for moments while udev probes it.
_PATIENCE, _STEP = 20.0, 0.05


def kernel_name(path: str) -> str:
    """Return the name of a block device in /sys/class/block; raise OSError."""
    return kernel_name_of(os.stat(path).st_rdev)


def kernel_name_of(number: int) -> str:
    """Return the name of a device with a number of stat(2); raise OSError if it is no block device."""
    link = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    return os.path.basename(os.readlink(link))


def partitions_of(name: str) -> dict[int, str]:
    """Return the partitions of a disk by their numbers, as paths of devices."""
    found = {}
    for entry in os.listdir(f"{_CLASS}/{name}"):
        number = f"{_CLASS}/{name}/{entry}/partition"
        if os.path.exists(number):
            with open(number, encoding="ascii") as file:
                # In names of sysfs "!" stands for "/".
                found[decimal(file.read().strip(), limit=LARGEST_SIZE)] = f"/dev/{entry.replace('!', '/')}"
    return found


def can_have_partitions(name: str) -> bool:
    """Return whether the kernel keeps partitions on a block device."""
    with open(f"{_CLASS}/{name}/ext_range", encoding="ascii") as file:
        return file.read().strip() != "1"


def reads_tables(name: str) -> bool:
    """Return whether the kernel itself looks for partitions on a disk; not so on most loop devices."""
    path = f"{_CLASS}/{name}/loop/partscan"
    if not os.path.exists(path):
        return True
    with open(path, encoding="ascii") as file:
        return file.read().strip() == "1"


def disk_sequence(name: str) -> str:
    """Return what tells a disk from one that gets its name later; empty before Linux 5.15."""
    path = f"{_CLASS}/{name}/diskseq"
    if not os.path.exists(path):
        return ""
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def add_partition(fd: int, number: int, start: int, size: int) -> None:
    """Tell the kernel of a partition of an open disk, in bytes; raise OSError. Its device is there at once."""
    _tell(fd, _ADD, number, start, size)


def remove_partitions(fd: int, name: str) -> None:
    """Make the kernel forget all partitions of an open disk; raise OSError, EBUSY if one is in use."""
    deadline = time.monotonic() + _PATIENCE
    for number in sorted(partitions_of(name)):
        while True:
            try:
                _tell(fd, _REMOVE, number, 0, 0)
            except OSError as error:
                if error.errno == errno.EBUSY and time.monotonic() < deadline:
                    time.sleep(_STEP)
                    continue
                # ENXIO: it has gone in the meantime.
                if error.errno != errno.ENXIO:
                    raise
            break


def _tell(fd: int, operation: int, number: int, start: int, size: int) -> None:
    packed = _PARTITION.pack(start, size, number)
    partition = ctypes.create_string_buffer(packed, len(packed))
    fcntl.ioctl(fd, _BLKPG, _REQUEST.pack(operation, 0, len(packed), ctypes.addressof(partition)))
