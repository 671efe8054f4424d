"""Mount and unmount file systems."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bootc_live.system.run import run
from bootc_live.system.system_call import libc_call, system_call

# Numbers of system calls since Linux 5.2, the same on all architectures.
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_AT_FDCWD, _CLONE, _RECURSIVE, _FROM_DESCRIPTOR = -100, 1, 0x8000, 4
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
# Since Linux 5.12.
_MOUNT_SETATTR = 442
_EMPTY_PATH, _ATTR_IDMAP = 0x1000, 0x100000
_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_RDONLY = 1
_MNT_DETACH = 2


def mount(kind: str, what: str, where: str, options: str, *, hint: str, cwd: str | None = None) -> None:
    """Mount a file system of type ``kind`` at ``where``; raises RunError.

    Relative paths in the options are relative to ``cwd``.
    """
    run(["mount", "-t", kind, "-o", options, what, where], hint=hint, cwd=cwd)


def bind(what: str, where: str, *, hint: str) -> None:
    """Bind-mount a directory; raises RunError."""
    run(["mount", "--bind", what, where], hint=hint)


def remount_bound(where: str, options: str, *, hint: str) -> None:
    """Set flags of mount(8) such as "ro" for a mount, not for its file system; raises RunError."""
    run(["mount", "-o", ",".join(part for part in ("remount,bind", *options.split(",")) if part), where], hint=hint)


def mount_tree(where: str, *, recursive: bool = True) -> int:
    """Clone a mount, with all mounts below it; return the descriptor of the detached clone. Raises OSError."""
    flags = _CLONE | _RECURSIVE | os.O_CLOEXEC
    return system_call(_OPEN_TREE, _AT_FDCWD, os.fsencode(where), flags if recursive else flags & ~_RECURSIVE)


def attach_tree(tree: int, where: str) -> None:
    """Attach a detached mount tree to a directory (move_mount(2)). Raises OSError."""
    system_call(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(where), _FROM_DESCRIPTOR)


def map_owners(tree: int, namespace: int) -> None:
    """Map the owners of files in a detached tree by a user namespace (mount_setattr(2)). Raises OSError.

    What IDs inside of the namespace own belongs to the outer IDs instead, and the other way round.
    """
    wanted = struct.pack("=4Q", _ATTR_IDMAP, 0, 0, namespace)
    system_call(_MOUNT_SETATTR, tree, b"", _EMPTY_PATH | _RECURSIVE, wanted, len(wanted))


def unmount(where: str) -> None:
    """Unmount lazily, with all mounts below (MNT_DETACH of umount(2)). Raises OSError."""
    libc_call("umount2", os.fsencode(where), _MNT_DETACH)


def unmount_disks(mounts: str = "/proc/self/mounts") -> None:
    """Unmount the file systems on block devices that nobody uses, the last ones first. Raise OSError."""
    with open(mounts, "rb") as file:
        found = [line.split()[:2] for line in file]
    for device, where in reversed(found):
        if device.startswith(b"/dev/"):
            with suppress(OSError):
                libc_call("umount2", where, 0)


@contextmanager
def unmounted_after(where: str) -> Iterator[None]:
    """Unmount what the block mounts at ``where``, even if the block fails."""
    try:
        yield
    finally:
        if is_mount_point(where):
            unmount(where)


@contextmanager
def mounted(kind: str, what: str, where: str, options: str, *, hint: str) -> Iterator[str]:
    """Mount a file system for the block; yields ``where``."""
    with unmounted_after(where):
        mount(kind, what, where, options, hint=hint)
        yield where


def is_mount_point(path: str, mountinfo: str = "/proc/self/mountinfo") -> bool:
    """Return whether proc_pid_mountinfo(5) lists a mount at a path."""
    return kind_at(path, mountinfo) is not None


def kind_at(path: str, mountinfo: str = "/proc/self/mountinfo") -> str | None:
    """Return the type of the file system that is mounted at a path, by proc_pid_mountinfo(5); None if none is."""
    wanted = os.path.realpath(path)
    for special in "\\ \t\n":
        wanted = wanted.replace(special, f"\\{ord(special):03o}")
    found = None
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            words = line.split(" ")
            # The last one hides the others.
            if words[4] == wanted:
                found = words[words.index("-", 6) + 1]
    return found


def require_kind(kind: str) -> None:
    """Raise OSError if the kernel has no file system of a type; this loads its module."""
    os.close(system_call(_FSOPEN, kind.encode(), _CLOEXEC))


@contextmanager
def detached(kind: str, device: str) -> Iterator[int]:
    """Mount a block device read-only for the block; yields a descriptor of its root directory. Raises OSError."""
    top = detached_mount(kind, _RDONLY, ro=None, source=device)
    try:
        yield top
    finally:
        os.close(top)


def detached_mount(kind: str, attributes: int, **options: str | None) -> int:
    """Mount a file system nowhere, and return the descriptor of its root directory; it goes with that. Raises OSError.

    Attributes are 1 for read-only, 2 for nosuid, 4 for nodev and 8 for noexec. An option without a value is None.
    """
    context = system_call(_FSOPEN, kind.encode(), _CLOEXEC)
    try:
        for name, value in options.items():
            setting = _SET_FLAG if value is None else _SET_STRING
            system_call(_FSCONFIG, context, setting, name.encode(), None if value is None else os.fsencode(value), 0)
        system_call(_FSCONFIG, context, _CREATE, None, None, 0)
        return system_call(_FSMOUNT, context, _CLOEXEC, attributes)
    finally:
        os.close(context)
