"""zram devices by sysfs: RAM that compresses what is written to it (Documentation/admin-guide/blockdev/zram.rst)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.errors import OutOfMemoryError, RunError
from bootc_live.base.units import mib
from bootc_live.system.cleanup.guard import made
from bootc_live.system.run import find_program, run

HINT = "use a kernel with zram; in an initramfs, add the dracut module bootc-live-zram"
_CONTROL = "/sys/class/zram-control"
_BLOCK = "/sys/block"
# udev looks at new devices; what is still mounted has it for good, and nobody may have to wait for that.
_PATIENCE, _SHORT_PATIENCE = 2.0, 0.1
_STEP = 0.01


@contextmanager
def zram_device(size: int, algorithm: str = "", level: int | None = None, limit: int = 0) -> Iterator[str]:
    """Give the path of a new zram device for ``size`` bytes, which may take ``limit`` bytes of memory; 0 is no limit.

    An empty ``algorithm`` and no ``level`` are the kernel's own choice. The device is gone after the block, unless
    something is still mounted from it. Raises RunError, also for algorithms that the kernel does not have, and
    OutOfMemoryError where there is no memory for its tables.
    """
    _require_zram()
    with made(_add_device, _remove_device) as device:
        path = f"/dev/zram{device.result}"
        try:
            _set_up(device.result, size, algorithm, level, limit)
            yield path
        except BaseException:
            _detach_fds(path)
            raise
        _remove(device.result, _SHORT_PATIENCE)
        device.forget()


def _add_device() -> int:
    # A device is made whenever this is read.
    return int(_read(f"{_CONTROL}/hot_add"))


def _remove_device(number: int) -> None:
    _remove(number, _PATIENCE)


def failed_writes(device: str) -> int:
    """Give how many writes a zram device could not take: data that is lost, whether somebody was told or not."""
    return int(_read(f"{_BLOCK}/{os.path.basename(device)}/io_stat").split()[1])


def memory_used(device: str) -> tuple[int, int]:
    """Give how many bytes of data a zram device holds, and how many bytes of memory it takes for them."""
    fields = _memory(device)
    return fields[0], fields[2]


def memory_limit(device: str) -> int:
    """Give how many bytes of memory a zram device may take; 0 is no limit."""
    return _memory(device)[3]


def zram_below(where: str) -> str | None:
    """Give the path of the zram device that the file system of ``where`` lies on, if it lies on one."""
    number = os.stat(where).st_dev
    link = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    name = os.path.basename(os.path.realpath(link)) if os.path.exists(link) else ""
    return f"/dev/{name}" if name.startswith("zram") else None


def _memory(device: str) -> list[int]:
    return [int(field) for field in _read(f"{_BLOCK}/{os.path.basename(device)}/mm_stat").split()]


def _require_zram() -> None:
    # Without a number of devices the module makes zram0, and leaves it for the swap of the system that is booted.
    if not os.path.isdir(_CONTROL) and find_program("modprobe"):
        run(["modprobe", "zram"], hint=HINT)
    if not os.path.isdir(_CONTROL):
        raise RunError("this kernel has no zram", hint=HINT)


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
            hint="correct its size, bootc.zram.algorithm= and bootc.zram.level=; look at the kernel log (dmesg)",
        ) from error
    if limit:
        _write(f"{folder}/mem_limit", str(limit))


def _choose(folder: str, algorithm: str) -> None:
    # The one in use stands in brackets.
    known = _read(f"{folder}/comp_algorithm").replace("[", "").replace("]", "").split()
    if algorithm not in known:
        raise RunError(
            f"zram of this kernel has no algorithm 'bootc.zram.algorithm={algorithm}'; it has {', '.join(known)}",
            hint="use one of those, or leave bootc.zram.algorithm= out",
        )
    try:
        _write(f"{folder}/comp_algorithm", algorithm)
    except OSError as error:
        raise RunError(
            f"zram refuses 'bootc.zram.algorithm={algorithm}': {error.strerror}",
            hint="use another one, or pack its kernel module into the initramfs",
        ) from error


def _set_level(folder: str, level: int) -> None:
    try:
        _write(f"{folder}/algorithm_params", f"level={level}")
    except FileNotFoundError as error:
        raise RunError(
            f"zram of this kernel has no levels to set with 'bootc.zram.level={level}'",
            hint="use Linux 6.12 or later, or leave bootc.zram.level= out",
        ) from error
    except OSError as error:
        raise RunError(
            f"zram refuses 'bootc.zram.level={level}': {error.strerror}",
            hint="use another level, or leave bootc.zram.level= out",
        ) from error


def _remove(number: int, patience: float) -> None:
    """Take a device away once nothing has it open; give up without a word where something keeps it."""
    deadline = time.monotonic() + patience
    while True:
        try:
            _write(f"{_CONTROL}/hot_remove", str(number))
        except OSError as error:
            if error.errno == errno.EBUSY and time.monotonic() < deadline:
                time.sleep(_STEP)
                continue
        return


def _detach_fds(device: str) -> None:
    """Point what this program still has open of a device, or of the file system on it, elsewhere.

    What failed may have left it open, and nobody will use it again; but somebody may yet close it, by its number.
    """
    with suppress(OSError), open(os.devnull, "rb") as nothing:
        number = os.stat(device).st_rdev
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                status = os.fstat(int(name))
                if number in (status.st_dev, status.st_rdev):
                    os.dup2(nothing.fileno(), int(name), inheritable=False)


def _read(path: str) -> str:
    # One call: the kernel acts on each of them.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).decode("ascii").strip()
    except OSError as error:
        raise RunError(f"cannot read {path!r}: {error.strerror}", hint="look at the kernel log (dmesg)") from error
    finally:
        os.close(fd)


def _write(path: str, text: str) -> None:
    # Not O_CREAT: sysfs answers that with another error than that there is no such file.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)
