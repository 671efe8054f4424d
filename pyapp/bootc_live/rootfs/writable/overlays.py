"""The writable parts of a read-only root: overlays for / and /etc, a file system of its own for /var.

What is written goes to a place: a file system in RAM, which lives as long as something is mounted from it, or a
directory on a disk.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.errors import OutOfMemoryError, RunError
from bootc_live.base.log import Recorder
from bootc_live.base.units import mib
from bootc_live.config.model import WritableParts, Zram
from bootc_live.rootfs.ram import RamFs, ram_filesystem
from bootc_live.system.memory import total_bytes
from bootc_live.system.mounts import bind, mount, remount_bound, unmounted_after
from bootc_live.system.run import run

_KERNEL_LOG = "look at the kernel log (dmesg)"
_OVERLAY_HINT = "use a kernel with the overlay file system"
# A tmpfs takes so much where it is not told otherwise.
_SHARE_OF_RAM = 2
# What a file system may have left that is full for some file.
_NEARLY_NOTHING = 2**20


@contextmanager
def ram_place(parts: WritableParts, size: int | None, where: str, name: str) -> Iterator[str]:
    """Mount a file system in RAM at the directory ``where``, as the parts are to have it.

    ``size`` limits it in bytes; None leaves it half of the RAM. Raises as ``ram_filesystem``.
    """
    if parts.backing == "zram":
        device = Zram(size or total_bytes() // _SHARE_OF_RAM, parts.zram_algorithm, parts.zram_level)
        spec = RamFs(size=None, zram=device, mode=0o700, name=name)
    else:
        spec = RamFs(size=size, mode=0o700, name=name)
    with ram_filesystem(spec, where):
        yield where


@contextmanager
def overlaid(lower: str, where: str, options: str, place: str) -> Iterator[str]:
    """Mount ``lower`` writable at ``where``; changes go to the directories upper and work in ``place``.

    They are made where they are not there. Nothing of ``lower`` is copied. Raises RunError.
    """
    upper, work = os.path.join(place, "upper"), os.path.join(place, "work")
    if not os.path.isdir(upper):
        os.mkdir(upper)
        # The merged root directory shows what its upper half says of itself.
        copy_attributes(lower, upper)
    os.makedirs(work, exist_ok=True)
    base = os.path.dirname(place)
    # Relative, because commas, colons and backslashes of a working directory would mean something here.
    places = {"lowerdir": lower, "upperdir": upper, "workdir": work}
    parts = [f"{key}={os.path.relpath(path, base)}" for key, path in places.items()]
    joined = ",".join([*parts, options] if options else parts)
    with unmounted_after(where):
        mount("overlay", "overlay", where, joined, hint=_OVERLAY_HINT, cwd=base)
        yield where


@contextmanager
def seeded(where: str, place: str, limit: str) -> Iterator[str]:
    """Cover a directory with one in ``place`` that starts as a copy of it: a real file system, not an overlay.

    ``limit`` is the argument to raise where it does not fit. Raises RunError and OutOfMemoryError.
    """
    made = os.path.join(place, "seeded")
    os.mkdir(made)
    try:
        copy_tree(where, made)
    except RunError as error:
        if not is_full(place):
            raise
        usage = os.statvfs(place)
        raise OutOfMemoryError(
            f"the image's /{os.path.basename(where)} does not fit into {mib(usage.f_blocks * usage.f_frsize)} of RAM: "
            f"{error.message}",
            hint=f"raise {limit}, or give the machine more memory",
        ) from error
    with covered(where, made):
        yield where


@contextmanager
def covered(where: str, made: str) -> Iterator[str]:
    """Show another directory at ``where`` while the block runs. Raises RunError."""
    with unmounted_after(where):
        bind(made, where, hint=_KERNEL_LOG)
        yield where


@contextmanager
def frozen(where: str) -> Iterator[str]:
    """Make one directory of a writable root read-only, without anything below it. Raises RunError."""
    with unmounted_after(where):
        bind(where, where, hint=_KERNEL_LOG)
        remount_bound(where, "ro", hint=_KERNEL_LOG)
        yield where


def is_plain_directory(path: str, recorder: Recorder, name: str) -> bool:
    """Tell a directory from a link or nothing; warns where the image has none to make writable."""
    if os.path.isdir(path) and not os.path.islink(path):
        return True
    recorder.warn(f"the image has no directory {name}; it is left as it is")
    return False


def is_full(path: str) -> bool:
    """Tell whether the file system of a path has no room left, for data or for more files. Raises OSError."""
    usage = os.statvfs(path)
    no_inodes = usage.f_files > 0 and usage.f_favail == 0
    return no_inodes or usage.f_bavail * usage.f_frsize < _NEARLY_NOTHING


def copy_tree(source: str, target: str) -> None:
    """Copy what a directory holds, and what it says of itself, into an existing one. Raises RunError."""
    run(["cp", "-a", "--", f"{source}/.", target], hint="look at the kernel log (dmesg)")
    copy_attributes(source, target)


def copy_attributes(source: str, target: str) -> None:
    """Give a directory the owner, mode, extended attributes and time of another one. Raises OSError."""
    found = os.stat(source)
    os.chown(target, found.st_uid, found.st_gid)
    os.chmod(target, found.st_mode & 0o7777)
    for name in os.listxattr(source):
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            # As cp does: not every file system has every name space.
            if error.errno != errno.EOPNOTSUPP:
                raise
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
