"""zram devices: compressed block devices in RAM (kernel: Documentation/admin-guide/blockdev/zram.rst)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.errors import OutOfMemoryError, RunError
from bootc_live.base.units import mib
from bootc_live.system.cleanup.guard import owned
from bootc_live.system.run import find_program, run

_HINT = "use a kernel with zram"
_CONTROL = "/sys/class/zram-control"
_BLOCK = "/sys/block"
# Seconds to wait for udev, which opens new devices. A device that is still mounted stays busy.
_TIMEOUT, _SHORT_TIMEOUT = 2.0, 0.1
_STEP = 0.01


class ZramError(RunError):
    """The kernel has no zram, or rejects the ``option`` "algorithm" or "level" of a device."""

    def __init__(self, message: str, *, hint: str, option: str = "") -> None:
        """Set all parts."""
        super().__init__(message, hint=hint)
        self.option = option


@contextmanager
def zram_device(size: int, algorithm: str = "", level: int | None = None, limit: int = 0) -> Iterator[str]:
    """Make a zram device of ``size`` bytes that uses at most ``limit`` bytes of memory; yields its path. 0 is no limit.

    The kernel chooses the default algorithm and level. The device is removed after the block unless it is mounted.
    Raises ZramError, RunError, and OutOfMemoryError if there is no memory for its tables.
    """
    _require_zram()
    with owned(_add_device, _remove_device) as device:
        path = f"/dev/zram{device.result}"
        try:
            _set_up(device.result, size, algorithm, level, limit)
            yield path
        except BaseException:
            _detach_fds(path)
            raise
        _remove(device.result, _SHORT_TIMEOUT)
        device.forget()


def _add_device() -> int:
    # Reading this file makes a device.
    return int(_read(f"{_CONTROL}/hot_add"))


def _remove_device(number: int) -> None:
    _remove(number, _TIMEOUT)


def failed_writes(device: str) -> int:
    """Return the number of failed writes of a zram device; their data is lost even if no program got an error."""
    return int(_read(f"{_BLOCK}/{os.path.basename(device)}/io_stat").split()[1])


def memory_limit(device: str) -> int:
    """Return the memory limit of a zram device in bytes; 0 is no limit."""
    return int(_read(f"{_BLOCK}/{os.path.basename(device)}/mm_stat").split()[3])


def zram_below(where: str) -> str | None:
    """Return the path of the zram device that holds the file system of ``where``, or None."""
    number = os.stat(where).st_dev
    link = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    name = os.path.basename(os.path.realpath(link)) if os.path.exists(link) else ""
    return f"/dev/{name}" if name.startswith("zram") else None


def _require_zram() -> None:
    # The module also makes zram0, which stays for the swap of the booted system.
    if not os.path.isdir(_CONTROL) and find_program("modprobe"):
        run(["modprobe", "zram"], hint=_HINT)
    if not os.path.isdir(_CONTROL):
        raise ZramError("this kernel has no zram", hint=_HINT)


def _set_up(number: int, size: int, algorithm: str, level: int | None, limit: int) -> None:
    folder = f"{_BLOCK}/zram{number}"
    if algorithm:
        _choose(folder, algorithm)
    if level is not None:
        _set_level(folder, level)
    try:
        _write(f"{folder}/disksize", str(size))
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise OutOfMemoryError(
                f"there is no memory for the tables of a zram device of {mib(size)}", hint="make it smaller"
            ) from error
        raise RunError(
            f"a zram device of {mib(size)} cannot be set up: {error.strerror}",
            hint="correct its size, algorithm and level; look at the kernel log (dmesg)",
        ) from error
    if limit:
        _write(f"{folder}/mem_limit", str(limit))


def _choose(folder: str, algorithm: str) -> None:
    # The current one is in brackets.
    known = _read(f"{folder}/comp_algorithm").replace("[", "").replace("]", "").split()
    if algorithm not in known:
        raise ZramError(
            f"zram of this kernel has no algorithm {algorithm!r}; it has {', '.join(known)}",
            hint="use one of those",
            option="algorithm",
        )
    try:
        _write(f"{folder}/comp_algorithm", algorithm)
    except OSError as error:
        raise ZramError(
            f"zram refuses the algorithm {algorithm!r}: {error.strerror}",
            hint="use another one, or install its kernel module",
            option="algorithm",
        ) from error


def _set_level(folder: str, level: int) -> None:
    try:
        _write(f"{folder}/algorithm_params", f"level={level}")
    except FileNotFoundError as error:
        raise ZramError(
            f"zram of this kernel cannot set the level {level}", hint="use Linux 6.12 or later", option="level"
        ) from error
    except OSError as error:
        raise ZramError(
            f"zram refuses the level {level}: {error.strerror}", hint="use another one", option="level"
        ) from error


def _remove(number: int, timeout: float) -> None:
    """Remove a device when nothing has it open; leave it if it stays busy."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            _write(f"{_CONTROL}/hot_remove", str(number))
        except OSError as error:
            if error.errno == errno.EBUSY and time.monotonic() < deadline:
                time.sleep(_STEP)
                continue
        return


def _detach_fds(device: str) -> None:
    """Redirect the descriptors of this process for a device, or for files on it, to /dev/null.

    A failed step may have left them open. They are not closed, because their numbers may still be closed later.
    """
    with suppress(OSError), open(os.devnull, "rb") as nothing:
        number = os.stat(device).st_rdev
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                status = os.fstat(int(name))
                if number in (status.st_dev, status.st_rdev):
                    os.dup2(nothing.fileno(), int(name), inheritable=False)


def _read(path: str) -> str:
    # A single read: the kernel acts on each one.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).decode("ascii").strip()
    except OSError as error:
        raise RunError(f"cannot read {path!r}: {error.strerror}", hint="look at the kernel log (dmesg)") from error
    finally:
        os.close(fd)


def _write(path: str, text: str) -> None:
    # Without O_CREAT: with it sysfs does not report ENOENT.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)
