"""Namespaces, and the switch to another root."""

from __future__ import annotations

import os

from bootc_live.system.system_call import libc_call

NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWPID, NEWNET = 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
NOSUID, NODEV, NOEXEC, RDONLY, BIND, MOVE = 2, 4, 8, 1, 4096, 8192
_REC, _PRIVATE = 16384, 1 << 18
_DETACH = 2


def unshare(flags: int) -> None:
    """Leave namespaces (unshare(2)). Raises OSError."""
    libc_call("unshare", flags)


def make_private(where: str) -> None:
    """Keep mounts below a place from other namespaces, and theirs from here. Raises OSError."""
    libc_call("mount", b"none", os.fsencode(where), None, _REC | _PRIVATE, None)


def mount_at(kind: str, what: str, where: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system (mount(2)), without a program that the root may lack. Raises OSError."""
    data = options.encode() if options else None
    try:
        libc_call("mount", os.fsencode(what), os.fsencode(where), kind.encode(), flags, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, where) from error


def bind_at(what: str, where: str) -> None:
    """Show a file or a directory with all mounts below it at another place. Raises OSError."""
    mount_at("none", what, where, BIND | _REC)


def move_mount_to(what: str, where: str) -> None:
    """Move a mount. Raises OSError."""
    mount_at("none", what, where, MOVE)


def pivot_into(root: str, old: str | None = None) -> None:
    """Make a mount point the root of this process's mount namespace; raises OSError.

    The old root appears at ``old``, a directory below ``root`` and relative to it; without that, it is left, and
    goes when nobody uses it.
    """
    os.chdir(root)
    # With the new root itself as the place, the old one lies over it (pivot_root(2)).
    libc_call("pivot_root", b".", os.fsencode(old) if old else b".")
    if old is None:
        libc_call("umount2", b".", _DETACH)
    os.chdir("/")
