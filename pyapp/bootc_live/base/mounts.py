"""Mounts by mount(8) and umount(8), each undone with its block unless kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.run import run


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


def make_private(where: str, *, hint: str) -> None:
    """Stop a mount and all below it from passing mounts on to others; raises RunError."""
    run(["mount", "--make-rprivate", where], hint=hint)


def unmount(where: str) -> None:
    """Take a mount and all below it away, at once for everyone who can name it."""
    argv, hint = ["umount", "-R", "-l", where], "look at /proc/self/mountinfo"
    try:
        run(argv, hint=hint)
    except KeyboardInterrupt:
        # It took umount along. There is no second one, see interrupt_once().
        if is_mount_point(where):
            run(argv, hint=hint)
        raise


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
