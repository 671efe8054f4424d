"""File systems in RAM of their own: a tmpfs, or an ext4 on a zram device."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from bootc_live.base.errors import OutOfMemoryError, RootfsError, RunError
from bootc_live.base.units import mib
from bootc_live.config.model import Zram
from bootc_live.system.memory import available_bytes
from bootc_live.system.mounts import mounted, unmounted_after
from bootc_live.system.run import find_program, run
from bootc_live.system.zram import ZramError, failed_writes, memory_limit, zram_below, zram_device

# What must stay free for the kernel and programs while the root is made.
KEPT_FREE = 64 * 2**20
# In words of ext4(5). There is no journal to replay, and what the device does not hold reads as zeros already.
_FEATURES = (
    "none,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,huge_file,large_file,sparse_super,uninit_bg"
)
_BLOCK = 4096
# One for every block, as even a tree of tiny files needs no more; those not in use take no memory.
_BYTES_PER_INODE = 4096
# "sync", because a page that is written back later and does not fit then would be lost without a word.
_EXT4_OPTIONS = "sync,discard,noatime,noinit_itable,errors=remount-ro"
_LEAST_INODES = 65536
_MODULE_HINT = "in an initramfs, add the dracut module bootc-live-zram"
# BLKFLSBUF of linux/fs.h.
_FLUSH = 0x1261


@dataclass(frozen=True)
class RamFs:
    """What is wanted: ``size`` limits a tmpfs, or the memory that a zram device takes, in bytes.

    Without it a tmpfs may take half of RAM, a zram device what is available now but 64 MiB. ``huge`` and ``mpol`` are
    options of tmpfs(5). ``mode`` is that of the top directory.
    """

    size: int | None
    huge: str = ""
    mpol: str = ""
    zram: Zram | None = None
    mode: int = 0o755
    name: str = "bootc-live"


@contextmanager
def ram_filesystem(spec: RamFs, where: str) -> Iterator[str]:
    """Mount a new, empty file system at ``where``, an existing directory; gives ``where``.

    It is unmounted with the block, and lives on only in what is mounted from it elsewhere. Raises RunError,
    RootfsError where the kernel or mke2fs refuses what was asked for, and OutOfMemoryError in place of whatever the
    block raises where that came from a zram device that could not take more data.
    """
    with _on_tmpfs(spec, where) if spec.zram is None else _on_zram(spec, spec.zram, where):
        yield where


def settle(where: str) -> None:
    """Make sure that all that was written below ``where`` is where it is kept; at once where that is no zram device.

    Raises OutOfMemoryError where something of it is lost, because the device could not take it.
    """
    device = zram_below(where)
    if device is not None:
        # Left open, it would keep the device from going away with the block that it was made for.
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Writes the file system on the device back, too.
            fcntl.ioctl(fd, _FLUSH, 0)
        finally:
            os.close(fd)
        _check(device)


def _on_tmpfs(spec: RamFs, where: str) -> AbstractContextManager[str]:
    options = [f"mode=0{spec.mode:o}"]
    if spec.size is not None:
        options += [f"size={spec.size}", f"nr_inodes={max(spec.size // _BLOCK, _LEAST_INODES)}"]
    if not spec.huge and not spec.mpol:
        return mounted("tmpfs", spec.name, where, ",".join(options), hint="use a kernel with tmpfs")
    return _special_tmpfs(spec, where, options)


@contextmanager
def _special_tmpfs(spec: RamFs, where: str, options: list[str]) -> Iterator[str]:
    typed = []
    if spec.huge:
        options.append(f"huge={spec.huge}")
        typed.append(f"'bootc.live.huge={spec.huge.replace('_', '.')}'")
    if spec.mpol:
        options.append(f"mpol={spec.mpol}")
        typed.append(f"'bootc.live.mpol={spec.mpol}'")
    with unmounted_after(where):
        argv = ["mount", "-t", "tmpfs", "-o", ",".join(options), spec.name, where]
        try:
            # The newer system calls split the options at the commas of a list of nodes.
            run(argv, env={"LIBMOUNT_FORCE_MOUNT2": "always"})
        except RunError as error:
            raise RootfsError(
                f"the kernel refuses a tmpfs with {' and '.join(typed)}: {error.message}",
                hint="correct that, see tmpfs(5), or leave it out",
            ) from error
        yield where


@contextmanager
def _on_zram(spec: RamFs, zram: Zram, where: str) -> Iterator[str]:
    limit = available_bytes() - KEPT_FREE if spec.size is None else spec.size
    if limit <= 0:
        raise OutOfMemoryError(
            f"only {mib(available_bytes())} of memory are available, {mib(KEPT_FREE)} must stay free",
            hint="give the machine more memory",
        )
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
            # Whatever was seen of it: a short file, a wrong digest, a program that failed.
            _check(device, error)
            raise


@contextmanager
def _zram_hints() -> Iterator[None]:
    """Add the dracut module or the kernel argument that helps."""
    try:
        yield
    except ZramError as error:
        error.hint += f", or omit bootc.zram.{error.option}=" if error.option else f"; {_MODULE_HINT}"
        raise


def _make_ext4(device: str, size: int, name: str) -> None:
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", _FEATURES, "-b", str(_BLOCK), "-I", "256", "-m", "0", "-L", name]
    argv += ["-i", str(_BYTES_PER_INODE), "-E", "nodiscard,lazy_itable_init=1", device]
    try:
        # Settings of this machine's own file systems are none of ours.
        run(argv, env={"MKE2FS_CONFIG": "/dev/null"})
    except RunError as error:
        raise RootfsError(
            f"no file system can be made on a zram device of {mib(size)}: {error.message}",
            hint="use a larger one, at least what the image unpacks to and a tenth more",
        ) from error


def _check(device: str, cause: Exception | None = None) -> None:
    if failed_writes(device):
        raise OutOfMemoryError(
            f"zram could not take all data: compressed, it needs more than the {mib(memory_limit(device))} of memory "
            "that it may have",
            hint="give the machine more memory, raise the limit if there is one (bootc.live.size=), or choose a better "
            "algorithm (bootc.zram.algorithm=)",
        ) from cause
