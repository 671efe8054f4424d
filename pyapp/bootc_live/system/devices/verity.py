"""dm-verity devices: block devices whose every byte is checked when it is read.

See linux/dm-ioctl.h and Documentation/admin-guide/device-mapper/verity.rst of the kernel.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.errors import RunError
from bootc_live.system.cleanup.guard import owned
from bootc_live.system.run import find_program, run

_CONTROL = "/dev/mapper/control"
_DEVICE = "/dev/dm-"
_CREATE, _REMOVE, _RESUME, _LOAD, _TARGET_VERSION = 3, 4, 6, 9, 17
# struct dm_ioctl: version, size of all, start of the data, targets, open count, flags, event, device, name, UUID.
_HEADER = struct.Struct("=3I2IIiIIIQ128s129s7x")
# struct dm_target_spec: start and length in sectors, status, offset of the next one, type.
_TARGET = struct.Struct("=QQiI16s")
_IOCTL = 0xC000FD00 | _HEADER.size << 16
_READ_ONLY, _DEFERRED = 1 << 0, 1 << 17
_SIZE = 1024
_BLOCK, _SECTORS = 4096, 8


def require_verity() -> None:
    """Raise OSError if the kernel has no dm-verity; this loads its module."""
    if not os.path.exists(_CONTROL) and find_program("modprobe"):
        with suppress(RunError):
            run(["modprobe", "dm-mod"])
    # The kernel loads the module of a target that it does not know.
    _control(_TARGET_VERSION, "verity")


@contextmanager
def verity_device(device: str, blocks: int, root_hash: str) -> Iterator[str]:
    """Make a read-only device of the first ``blocks`` blocks of another one; yield its path. Raise RunError.

    The hash tree follows those blocks. What does not fit the root hash cannot be read (EIO). The kernel removes the
    device at the last close: after the block, and after the last unmount.
    """
    try:
        path, fd = _made(device, blocks, root_hash)
    except OSError as error:
        raise RunError(
            f"cannot make a dm-verity device: {error.strerror}", hint="look at the kernel log (dmesg)"
        ) from error
    try:
        yield path
    finally:
        os.close(fd)


def _made(device: str, blocks: int, root_hash: str) -> tuple[str, int]:
    """Return the path of a new device, and a descriptor that keeps it."""
    name = f"bootc-live-{os.urandom(8).hex()}"
    number = os.stat(device).st_rdev
    below = f"{os.major(number)}:{os.minor(number)}"
    table = f"1 {below} {below} {_BLOCK} {_BLOCK} {blocks} {blocks} sha256 {root_hash} -"
    with owned(_create, _remove, name) as made:
        _control(_LOAD, name, _READ_ONLY, _TARGET.pack(0, blocks * _SECTORS, 0, 0, b"verity") + table.encode() + b"\0")
        path = f"{_DEVICE}{os.minor(_control(_RESUME, name))}"
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # It is open, so the kernel removes it later.
            _remove(name)
        except OSError:
            os.close(fd)
            raise
        made.forget()
    return path, fd


def _create(name: str) -> str:
    _control(_CREATE, name)
    return name


def _remove(name: str) -> None:
    """Remove a device once nothing has it open; do nothing if it is gone."""
    try:
        _control(_REMOVE, name, _DEFERRED)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise


def _control(command: int, name: str, flags: int = 0, target: bytes = b"") -> int:
    """Send a command about a device to the device mapper; return the device's number. Raise OSError."""
    size = _HEADER.size
    request = bytearray(_SIZE)
    _HEADER.pack_into(request, 0, 4, 0, 0, _SIZE, size, bool(target), 0, flags, 0, 0, 0, name.encode(), b"")
    request[size : size + len(target)] = target
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(control, _IOCTL | command, request)
    finally:
        os.close(control)
    return int(_HEADER.unpack_from(request)[10])
