"""Confine a thread that starts filter programs, which only convert bytes.

All restrictions apply to one thread and are inherited by the programs it starts (prctl(2), seccomp(2), landlock(7)). So
no code runs between fork and exec, and other threads are not restricted.

Restrictions that the kernel does not support are skipped; all supported kernels have all of them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from contextlib import suppress

# The user nobody by number: an initramfs may have no /etc/passwd.
NOBODY = 65534

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_CLONE_NEWNET = 0x40000000
# The same number everywhere.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
# Write files, remove and make entries of all kinds (ABI 1); no rule allows any of these.
_LANDLOCK_CHANGES = sum(1 << bit for bit in (1, *range(4, 13)))

# AUDIT_ARCH_… of the kernel, and the numbers of the refused calls. The output of the program may be a file with data of
# others: it can only be written sequentially, and not by asynchronous calls (aio(7), io_uring(7)). Sockets are refused,
# and access to other processes and their descriptors.
_REFUSED = {
    "x86_64": (
        0xC000003E,
        {"lseek": 8, "ioctl": 16, "pwrite64": 18, "socket": 41, "socketpair": 53, "truncate": 76, "ftruncate": 77}
        | {"ptrace": 101, "io_setup": 206, "io_submit": 209, "splice": 275, "fallocate": 285, "pwritev": 296}
        | {"perf_event_open": 298, "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321, "userfaultfd": 323}
        | {"copy_file_range": 326, "pwritev2": 328, "io_uring_setup": 425, "pidfd_getfd": 438},
    ),
    "aarch64": (
        0xC00000B7,
        {"io_setup": 0, "io_submit": 2, "ioctl": 29, "truncate": 45, "ftruncate": 46, "fallocate": 47, "lseek": 62}
        | {"pwrite64": 68, "pwritev": 70, "splice": 76, "ptrace": 117, "socket": 198, "socketpair": 199}
        | {"perf_event_open": 241, "process_vm_readv": 270, "process_vm_writev": 271, "bpf": 280, "userfaultfd": 282}
        | {"copy_file_range": 285, "pwritev2": 287, "io_uring_setup": 425, "pidfd_getfd": 438},
    ),
}
# x32, the second ABI of x86_64, has the numbers from here on.
_X32 = 0x40000000
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000


def confine_thread() -> None:
    """Permanently forbid this thread to gain privileges, change files or use the network."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _refuse_changes(libc)
    if not _refuse_calls(libc, os.uname().machine):
        # Fails without root privileges.
        libc.unshare(_CLONE_NEWNET)


def _refuse_changes(libc: ctypes.CDLL) -> None:
    rules = struct.pack("Q", _LANDLOCK_CHANGES)
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset >= 0:
        libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
        with suppress(OSError):
            os.close(ruleset)


def _refuse_calls(libc: ctypes.CDLL, machine: str) -> bool:
    if machine not in _REFUSED:
        return False
    code = _program(*_REFUSED[machine])
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(held))
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, program, 0, 0) == 0)


def _program(architecture: int, refused: dict[str, int]) -> bytes:
    """Return a filter (struct sock_filter of the kernel's filter.h) that makes the calls fail with EPERM."""
    numbers = sorted(refused.values())
    steps = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, len(numbers) + 1, 0, _X32),
        *((_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
