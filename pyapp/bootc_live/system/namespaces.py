"""Namespaces, and the switch to another root."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.system.cleanup.processes import started
from bootc_live.system.system_call import libc_call

NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWPID, NEWNET = 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
NEWUSER = 0x10000000
NOSUID, NODEV, NOEXEC, RDONLY, BIND = 2, 4, 8, 1, 4096
_REMOUNT, _REC, _PRIVATE = 32, 16384, 1 << 18
# Of netdevice(7): set flags, and the one for "up".
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_DETACH = 2


def unshare(flags: int) -> None:
    """Leave namespaces (unshare(2)). Raises OSError."""
    libc_call("unshare", flags)


def enter(namespace: str, kind: int) -> None:
    """Enter the namespace of a file such as /proc/PID/ns/net (setns(2)). Raises OSError."""
    file = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc_call("setns", file, kind)
    finally:
        os.close(file)


def make_private(where: str) -> None:
    """Keep mounts below a place from other namespaces, and theirs from here. Raises OSError."""
    libc_call("mount", b"none", os.fsencode(where), None, _REC | _PRIVATE, None)


def mount_at(kind: str, what: str, where: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system (mount(2)), without a program that the root may lack. Raises OSError."""
    data = os.fsencode(options) if options else None
    try:
        libc_call("mount", os.fsencode(what), os.fsencode(where), kind.encode(), flags, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, where) from error


def bind_at(what: str, where: str) -> None:
    """Show a file or a directory with all mounts below it at another place. Raises OSError."""
    mount_at("none", what, where, BIND | _REC)


def make_read_only(where: str) -> None:
    """Make a mount read-only, not its file system. Raises OSError."""
    mount_at("none", "none", where, BIND | _REMOUNT | RDONLY | NOSUID | NODEV | NOEXEC)


def raise_loopback() -> None:
    """Raise the loopback interface of a new network namespace. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


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


@contextmanager
def user_namespace(users: str, groups: str) -> Iterator[int]:
    """Yield the descriptor of a user namespace with maps as in /proc/PID/uid_map and gid_map; raise OSError.

    The process that makes it has ended then.
    """
    namespace = _make_user_namespace(users, groups)
    try:
        yield namespace
    finally:
        os.close(namespace)


def _make_user_namespace(users: str, groups: str) -> int:
    reading, writing = os.pipe()
    try:
        with open(os.devnull, "rb") as nothing:
            descriptors = (nothing.fileno(), writing, nothing.fileno())
            with started(_stay, descriptors=descriptors) as child:
                # So that the end of the child is the end of the pipe.
                os.close(writing)
                writing = -1
                if not os.read(reading, 1):
                    code = child.wait()
                    raise OSError(code, os.strerror(code))
                for name, lines in (("uid_map", users), ("gid_map", groups)):
                    _write(f"/proc/{child.pid}/{name}", lines)
                return os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _stay(_null: int, told: int, _also_null: int) -> int:
    """Be in a new user namespace until killed; return the error number if there is none."""
    try:
        unshare(NEWUSER)
    except OSError as error:
        return error.errno or 1
    os.write(told, b".")
    while True:
        signal.pause()


def _write(path: str, text: str) -> None:
    # The kernel takes a map by one write, or not at all.
    place = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(place, text.encode())
    finally:
        os.close(place)
