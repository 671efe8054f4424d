"""Mounts by mount(8) and umount(8), each undone with its block unless kept."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.run import run

# The same numbers everywhere (open_tree(2), move_mount(2), Linux 5.2).
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_AT_FDCWD, _CLONE, _RECURSIVE, _FROM_DESCRIPTOR = -100, 1, 0x8000, 4


def mount(kind: str, what: str, where: str, options: str, *, hint: str, cwd: str | None = None) -> None:
    """Put a file system of type ``kind`` at ``where``; raises RunError with the program's own words.

    Relative paths in the options count from ``cwd``.
    """
    run(["mount", "-t", kind, "-o", options, what, where], hint=hint, cwd=cwd)


def bind(what: str, where: str, *, recursive: bool = False, hint: str) -> None:
    """Show a directory at a second place; raises RunError."""
    run(["mount", "--rbind" if recursive else "--bind", what, where], hint=hint)


def remount_bound(where: str, options: str, *, hint: str) -> None:
    """Give one mount, not its file system, flags of mount(8) such as "ro"; raises RunError."""
    run(["mount", "-o", ",".join(part for part in ("remount,bind", *options.split(",")) if part), where], hint=hint)


def mount_tree(where: str) -> int:
    """Return a descriptor of a copy of a mount and all below it, which is attached nowhere. Raises OSError."""
    return _call(_OPEN_TREE, _AT_FDCWD, os.fsencode(where), _CLONE | _RECURSIVE | os.O_CLOEXEC)


def attach_tree(tree: int, where: str) -> None:
    """Attach such a tree at a directory (move_mount(2)). Raises OSError."""
    _call(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(where), _FROM_DESCRIPTOR)


def _call(number: int, *arguments: int | bytes) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    longs = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = int(library.syscall(ctypes.c_long(number), *longs))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def unmount(where: str) -> None:
    """Take a mount and all below it away, at once for everyone who can name it."""
    run(["umount", "-R", "-l", where], hint="look at /proc/self/mountinfo")


@contextmanager
def unmounted_after(where: str) -> Iterator[None]:
    """Take away what the block mounts at ``where``, where nothing was before; also what a broken-off step mounted."""
    try:
        yield
    finally:
        if is_mount_point(where):
            unmount(where)


@contextmanager
def mounted(kind: str, what: str, where: str, options: str, *, hint: str) -> Iterator[str]:
    """Keep a file system mounted while the block runs; gives ``where``."""
    with unmounted_after(where):
        mount(kind, what, where, options, hint=hint)
        yield where


def is_mount_point(path: str, mountinfo: str = "/proc/self/mountinfo") -> bool:
    """Tell whether something is mounted at a path, as proc_pid_mountinfo(5) lists it."""
    wanted = os.path.realpath(path)
    for special in "\\ \t\n":
        wanted = wanted.replace(special, f"\\{ord(special):03o}")
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        return any(line.split(" ")[4] == wanted for line in file)
