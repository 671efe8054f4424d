"""Mount file systems in RAM: a tmpfs, or an ext4 on a zram device."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from bootc_live.base.errors import OutOfMemoryError, RootfsError, RunError
from bootc_live.base.units import mib
from bootc_live.config.model import Zram
from bootc_live.system.devices.zram import ZramError, failed_writes, memory_limit, zram_below, zram_device
from bootc_live.system.memory import available_bytes
from bootc_live.system.mounts import mounted, unmounted_after
from bootc_live.system.run import find_program, run

# Memory that file systems in RAM leave to the kernel and programs while the root is built.
KEPT_FREE = 64 * 2**20
# See ext4(5). There is no journal to replay, and unwritten blocks of the device read as zeros.
_FEATURES = (
    "none,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,huge_file,large_file,sparse_super,uninit_bg"
)
_BLOCK = 4096
# One inode per block is enough for tiny files; unused ones need no memory.
_BYTES_PER_INODE = 4096
# "sync", because a page that is written back later and does not fit would be lost without an error.
_EXT4_OPTIONS = "sync,discard,noatime,noinit_itable,errors=remount-ro"
_LEAST_INODES = 65536
_MODULE_HINT = "in an initramfs, add the dracut module bootc-live-zram"
# BLKFLSBUF of linux/fs.h.
_FLUSH = 0x1261


@dataclass(frozen=True)
class RamFs:
    """A file system in RAM: ``size`` limits a tmpfs, or the memory that a zram device uses, in bytes.

    The default is half of RAM for a tmpfs, available memory minus 64 MiB for zram. ``huge`` and ``mpol`` are options of
    tmpfs(5), ``mode`` is that of the top directory.
    """

    size: int | None
    huge: str = ""
    mpol: str = ""
    zram: Zram | None = None
    mode: int = 0o755
    name: str = "bootc-live"


@contextmanager
def ram_filesystem(spec: RamFs, where: str) -> Iterator[str]:
    """Mount a new, empty file system at the directory ``where``, and yield ``where``.

    It is unmounted with the block, and lives on only in mounts made from it. Raise RunError, RootfsError if the kernel
    or mke2fs refuses the options, and OutOfMemoryError instead of the block's error if a zram device was full.
    """
    with _on_tmpfs(spec, where) if spec.zram is None else _on_zram(spec, spec.zram, where):
        yield where


def settle(where: str) -> None:
    """Write everything below ``where`` to its zram device, if it is on one.

    Raise OutOfMemoryError if the device was full and data is lost.
    """
    device = zram_below(where)
    if device is not None:
        # An open descriptor would keep the device from being removed.
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Also writes back the file system on the device.
            fcntl.ioctl(fd, _FLUSH, 0)
        finally:
            os.close(fd)
        _check(device)


def size_limit(size: int | None) -> int:
    """Return the size of a file system in RAM, by default available memory minus 64 MiB; raise OutOfMemoryError."""
    available = available_bytes()
    limit = available - KEPT_FREE if size is None else size
    if limit <= 0:
        raise OutOfMemoryError(
            f"only {mib(available)} of memory are available, {mib(KEPT_FREE)} must stay free",
            hint="give the machine more memory",
        )
    return limit


def _on_tmpfs(spec: RamFs, where: str) -> AbstractContextManager[str]:
    options = [f"mode=0{spec.mode:o}"]
    if spec.size is not None:
        options += [f"size={spec.size}", f"nr_inodes={max(spec.size // _BLOCK, _LEAST_INODES)}"]
    if not spec.huge and not spec.mpol:
        return mounted("tmpfs", spec.name, where, ",".join(options), hint="use a kernel with tmpfs")
    return _special_tmpfs(spec, where, options)


@contextmanager
def _special_tmpfs(spec: RamFs, where: str, options: Sequence[str]) -> Iterator[str]:
    more = [f"{name}={value}" for name, value in (("huge", spec.huge), ("mpol", spec.mpol)) if value]
    typed = {"huge": spec.huge.replace("_", "."), "mpol": spec.mpol}
    arguments = [f"'bootc.live.{name}={value}'" for name, value in typed.items() if value]
    with unmounted_after(where):
        argv = ["mount", "-t", "tmpfs", "-o", ",".join([*options, *more]), spec.name, where]
        try:
            # The newer system calls would split a list of nodes at its commas.
            run(argv, env={"LIBMOUNT_FORCE_MOUNT2": "always"})
        except RunError as error:
            raise RootfsError(
                f"the kernel refuses a tmpfs with {' and '.join(arguments)}: {error.message}",
                hint="correct that, see tmpfs(5), or leave it out",
            ) from error
        yield where


@contextmanager
def _on_zram(spec: RamFs, zram: Zram, where: str) -> Iterator[str]:
    limit = size_limit(spec.size)
    if find_program("mke2fs") is None:
        raise RunError(
            "the program 'mke2fs' is missing; it is needed to make a file system on zram",
            hint=f"install e2fsprogs; {_MODULE_HINT}",
        )
    with _zram_hints(), zram_device(zram.size, zram.algorithm, zram.level, limit) as device:
        try:
            with unmounted_after(where):
                _make_ext4(device, zram.size, spec.name)
                run(
                    ["mount", "-t", "ext4", "-o", _EXT4_OPTIONS, device, where],
                    hint=f"use a kernel with ext4; {_MODULE_HINT}",
                )
                os.rmdir(os.path.join(where, "lost+found"))
                os.chmod(where, spec.mode)
                yield where
        except Exception as error:
            # It shows as a short file, a wrong digest or a failed program.
            _check(device, error)
            raise


@contextmanager
def _zram_hints() -> Iterator[None]:
    """Add the dracut module or kernel argument to the hint of an error."""
    try:
        yield
    except ZramError as error:
        error.hint += f", or omit bootc.zram.{error.option}=" if error.option else f"; {_MODULE_HINT}"
        raise


def _make_ext4(device: str, size: int, name: str) -> None:
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", _FEATURES, "-b", str(_BLOCK), "-I", "256", "-m", "0", "-L", name]
    argv += ["-i", str(_BYTES_PER_INODE), "-E", "nodiscard,lazy_itable_init=1", device]
    try:
        # Ignore this machine's settings for other file systems.
        run(argv, env={"MKE2FS_CONFIG": "/dev/null"})
    except RunError as error:
        raise RootfsError(
            f"no file system can be made on a zram device of {mib(size)}: {error.message}",
            hint="use a larger one: at least the unpacked size of the image and a tenth more",
        ) from error


def _check(device: str, cause: Exception | None = None) -> None:
    if failed_writes(device):
        raise OutOfMemoryError(
            f"zram could not take all data: compressed, it needs more than its limit of {mib(memory_limit(device))} of "
            "memory",
            hint="give the machine more memory, raise the limit if there is one (bootc.live.size=), or choose a better "
            "algorithm (bootc.zram.algorithm=)",
        ) from cause
