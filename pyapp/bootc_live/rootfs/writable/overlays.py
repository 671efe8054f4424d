"""Make parts of a read-only root writable: overlays for / and /etc, a file system of its own for /var.

Changes are written to a ``place``: a file system in RAM, which lives as long as something is mounted from it, or a
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
# The default size of a tmpfs is RAM divided by this.
_SHARE_OF_RAM = 2
# A file system with less free space counts as full.
_NEARLY_NOTHING = 2**20
# Attributes of an overlay's own.
_NOTES = ("trusted.overlay.", "user.overlay.")


@contextmanager
def ram_place(parts: WritableParts, size: int | None, where: str, name: str) -> Iterator[str]:
    """Mount a file system in RAM, with the backing of ``parts``, at the directory ``where``.

    ``size`` limits it in bytes; the default is half of the RAM. Raise as ``ram_filesystem``.
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

    They are created if missing. Nothing of ``lower`` is copied. Raise RunError.
    """
    upper, work = os.path.join(place, "upper"), os.path.join(place, "work")
    if not os.path.isdir(upper):
        os.mkdir(upper)
        # The merged root directory shows the attributes of its upper half.
        copy_attributes(lower, upper)
    os.makedirs(work, exist_ok=True)
    base = os.path.dirname(place)
    # Relative, because commas, colons and backslashes of a working directory have a meaning here.
    places = {"lowerdir": lower, "upperdir": upper, "workdir": work}
    parts = [f"{key}={os.path.relpath(path, base)}" for key, path in places.items()]
    joined = ",".join([*parts, options] if options else parts)
    with unmounted_after(where):
        mount("overlay", "overlay", where, joined, hint=_OVERLAY_HINT, cwd=base)
        yield where


@contextmanager
def seeded(where: str, place: str, limit: str) -> Iterator[str]:
    """Cover a directory with one in ``place`` that starts as a copy of it: a real file system, not an overlay.

    ``limit`` is the argument to raise if the copy does not fit. Raise RunError and OutOfMemoryError.
    """
    made = os.path.join(place, "seeded")
    os.mkdir(made)
    try:
        copy_tree(where, made)
    except RunError as error:
        if not is_full(place):
            raise
        raise no_room_for(os.path.basename(where), place, error.message, limit) from error
    with covered(where, made):
        yield where


def no_room_for(part: str, place: str, why: str, limit: str) -> OutOfMemoryError:
    """Return the error for a ``part`` of the image that does not fit into the file system of ``place``."""
    usage = os.statvfs(place)
    return OutOfMemoryError(
        f"the image's /{part} does not fit into {mib(usage.f_blocks * usage.f_frsize)} of RAM: {why}",
        hint=f"raise {limit}, or give the machine more memory",
    )


@contextmanager
def covered(where: str, made: str) -> Iterator[str]:
    """Mount another directory at ``where`` while the block runs; raise RunError."""
    with unmounted_after(where):
        bind(made, where, hint=_KERNEL_LOG)
        yield where


@contextmanager
def frozen(where: str) -> Iterator[str]:
    """Make one directory of a writable root read-only, without mounts below it; raise RunError."""
    with unmounted_after(where):
        bind(where, where, hint=_KERNEL_LOG)
        remount_bound(where, "ro", hint=_KERNEL_LOG)
        yield where


def is_plain_directory(path: str, recorder: Recorder, name: str) -> bool:
    """Return whether ``path`` is a directory and no link; warn if it is not, because it cannot be made writable."""
    if os.path.isdir(path) and not os.path.islink(path):
        return True
    recorder.warn(f"the image has no directory {name}; it is left as it is")
    return False


def is_full(path: str) -> bool:
    """Return whether the file system of a path has no space left for data or files; raise OSError."""
    usage = os.statvfs(path)
    no_inodes = usage.f_files > 0 and usage.f_favail == 0
    return no_inodes or usage.f_bavail * usage.f_frsize < _NEARLY_NOTHING


def copy_tree(source: str, target: str) -> None:
    """Copy the content and attributes of a directory to an existing one; raise RunError."""
    run(["cp", "-a", "--", f"{source}/.", target], hint=_KERNEL_LOG)
    copy_attributes(source, target)


def copy_attributes(source: str, target: str) -> None:
    """Copy owner, mode, extended attributes and time of a directory to another one; raise OSError.

    What an overlay notes in attributes of its layers is about these alone.
    """
    found = os.stat(source)
    os.chown(target, found.st_uid, found.st_gid)
    os.chmod(target, found.st_mode & 0o7777)
    for name in os.listxattr(source):
        if name.startswith(_NOTES):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            # Like cp: not every file system has every name space. In a container, a policy may forbid to set labels.
            if error.errno != errno.EOPNOTSUPP and not name.startswith("security."):
                raise
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
