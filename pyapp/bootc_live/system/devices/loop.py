"""Loop devices that detach themselves (loop(4))."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.errors import RunError
from bootc_live.system.run import find_program, run

_CONTROL = "/dev/loop-control"
_GET_FREE = 0x4C82
_CONFIGURE = 0x4C0A
_READ_ONLY, _AUTOCLEAR = 1, 4
# struct loop_config: fd, block size, loop_info64 (offset at 24, size at 32, flags at 52, file name at 56), reserved.
_CONFIG = struct.Struct("<II24xQQ12xI64s112x64x")
_ATTEMPTS = 50


@contextmanager
def loop_device(
    fd: int, name: str, block_size: int, *, offset: int = 0, size: int = 0, writable: bool = False
) -> Iterator[str]:
    """Attach an open file to a loop device, by default read-only; yields its path. Raises RunError.

    It has ``size`` bytes of the file from ``offset`` on; 0 is all that follow. The kernel detaches it at the last
    close: after the block, and after the last unmount.
    """
    if not os.path.exists(_CONTROL) and find_program("modprobe"):
        run(["modprobe", "loop"], hint="use a kernel with loop devices")
    flags = _AUTOCLEAR if writable else _AUTOCLEAR | _READ_ONLY
    config = _CONFIG.pack(fd, block_size, offset, size, flags, os.fsencode(name)[:63])
    device = None
    try:
        for _ in range(_ATTEMPTS):
            device = _attach(config, os.O_RDWR if writable else os.O_RDONLY)
            if device is not None:
                yield device[0]
                return
            # Another process has attached a file to it in the meantime.
            time.sleep(0.02)
    finally:
        if device is not None:
            os.close(device[1])
    raise RunError("no free loop device was found", hint="detach loop devices with: losetup -D")


def _attach(config: bytes, access: int) -> tuple[str, int] | None:
    try:
        control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
        try:
            path = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
        finally:
            os.close(control)
        device = os.open(path, access | os.O_CLOEXEC)
    except FileNotFoundError:
        # The device node does not exist yet.
        return None
    except OSError as error:
        raise RunError(f"cannot use loop devices: {error.strerror}", hint="use a kernel with loop devices") from error
    try:
        fcntl.ioctl(device, _CONFIGURE, config)
    except OSError as error:
        os.close(device)
        if error.errno in (errno.EBUSY, errno.ENXIO):
            return None
        raise RunError(
            f"cannot set up {path}: {error.strerror}", hint="use Linux 5.8 or later with loop devices"
        ) from error
    return path, device
