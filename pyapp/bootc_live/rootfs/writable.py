"""The writable parts of a read-only root: overlays for / and /etc, a file system of its own for /var."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.log import Recorder
from bootc_live.base.mounts import bind, mount, mounted, remount_read_only, unmounted_after
from bootc_live.base.run import run

_KERNEL_LOG = "look at the kernel log (dmesg)"
_TMPFS_HINT = "use a kernel with tmpfs"
_OVERLAY_HINT = "use a kernel with the overlay file system"


@contextmanager
def overlaid(lower: str, where: str, options: str, scratch: str) -> Iterator[str]:
    """Mount ``lower`` writable at ``where``; changes go to a tmpfs that has no name of its own.

    ``scratch`` is an existing directory to mount that tmpfs on for a moment:
    the overlay keeps it alive. Nothing of ``lower`` is copied. Raises RunError.
    """
    base, upper, work = os.path.dirname(scratch), os.path.join(scratch, "upper"), os.path.join(scratch, "work")
    # Relative, because commas, colons and backslashes of a working directory would mean something here.
    places = {"lowerdir": lower, "upperdir": upper, "workdir": work}
    parts = [f"{key}={os.path.relpath(path, base)}" for key, path in places.items()]
    joined = ",".join([*parts, options] if options else parts)
    with unmounted_after(where):
        with mounted("tmpfs", "bootc-live", scratch, "mode=0700", hint=_TMPFS_HINT):
            os.mkdir(upper)
            os.mkdir(work)
            # The merged root directory shows what its upper half says of itself.
            _copy_attributes(lower, upper)
            mount("overlay", "overlay", where, joined, hint=_OVERLAY_HINT, cwd=base)
        yield where


@contextmanager
def seeded(where: str, scratch: str) -> Iterator[str]:
    """Cover a directory with a tmpfs that starts as a copy of it: a real file system, not an overlay.

    Raises RunError, also where the copy does not fit.
    """
    with unmounted_after(where):
        with mounted("tmpfs", "var", scratch, "mode=0755", hint=_TMPFS_HINT):
            run(["cp", "-a", "--", f"{where}/.", scratch], hint="give the machine more memory, or a smaller /var")
            _copy_attributes(where, scratch)
            bind(scratch, where, hint=_TMPFS_HINT)
        yield where


@contextmanager
def frozen(where: str) -> Iterator[str]:
    """Make one directory of a writable root read-only, without anything below it. Raises RunError."""
    with unmounted_after(where):
        bind(where, where, hint=_KERNEL_LOG)
        remount_read_only(where, hint=_KERNEL_LOG)
        yield where


def is_plain_directory(path: str, recorder: Recorder, name: str) -> bool:
    """Tell a directory from a link or nothing; warns where the image has none to make writable."""
    if os.path.isdir(path) and not os.path.islink(path):
        return True
    recorder.warn(f"the image has no directory {name}; it is left as it is")
    return False


def _copy_attributes(source: str, target: str) -> None:
    found = os.stat(source)
    os.chown(target, found.st_uid, found.st_gid)
    os.chmod(target, found.st_mode & 0o7777)
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
