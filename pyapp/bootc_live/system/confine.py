"""Confine this process to reading, writing and computing, for good.

Every restriction is one of the kernel. Those that it does not support are skipped; all supported kernels have all.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from contextlib import suppress

from bootc_live.system.system_call import libc_call

# The user nobody by number: an initramfs may have no /etc/passwd.
_NOBODY = 65534
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_SET_PDEATHSIG, _MODE_FILTER, _SIGKILL = 38, 22, 1, 2, 9
_CLONE_NEWNET = 0x40000000
_RLIMIT_FSIZE, _RLIMIT_CORE, _RLIMIT_NOFILE, _RLIMIT_AS = 1, 4, 7, 9

# AUDIT_ARCH_… of the kernel, and the numbers of the allowed calls. Files are read and written sequentially, without
# seeking: the output may be a file with data of others. There are no calls that open, connect, start, kill or trace.
_ALLOWED = {
    "x86_64": (
        0xC000003E,
        {"read": 0, "write": 1, "close": 3, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13}
        | {"rt_sigprocmask": 14, "rt_sigreturn": 15, "readv": 19, "sched_yield": 24, "mremap": 25, "madvise": 28}
        | {"getpid": 39, "exit": 60, "gettid": 186, "futex": 202, "restart_syscall": 219, "clock_gettime": 228}
        | {"exit_group": 231, "getrandom": 318},
    ),
    "aarch64": (
        0xC00000B7,
        {"close": 57, "read": 63, "write": 64, "readv": 65, "exit": 93, "exit_group": 94, "futex": 98}
        | {"clock_gettime": 113, "sched_yield": 124, "restart_syscall": 128, "rt_sigaction": 134}
        | {"rt_sigprocmask": 135, "rt_sigreturn": 139, "getpid": 172, "gettid": 178, "brk": 214, "munmap": 215}
        | {"mremap": 216, "mmap": 222, "mprotect": 226, "madvise": 233, "getrandom": 278},
    ),
}
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000


def confine_process(memory: int, most: int) -> None:
    """Leave this process its open descriptors, ``memory`` more bytes, and files up to byte ``most`` (0: no file).

    It belongs to nobody afterwards, and ends with its parent. Only for a process with one thread. Raise OSError.
    """
    parent = os.getppid()
    if os.geteuid() == 0:
        _become_nobody()
    libc_call("prctl", _PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise ProcessLookupError
    with suppress(FileNotFoundError), open("/proc/self/statm", "rb") as file:
        used = int(file.read().split()[0]) * mmap.PAGESIZE
        _limit(_RLIMIT_AS, used + memory)
    _limit(_RLIMIT_CORE, 0)
    _limit(_RLIMIT_FSIZE, most)
    # No new ones. Open descriptors stay.
    _limit(_RLIMIT_NOFILE, 0)
    libc_call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if not _allow_calls(os.uname().machine):
        # Fails without root privileges.
        with suppress(OSError):
            libc_call("unshare", _CLONE_NEWNET)


def _limit(number: int, most: int) -> None:
    before = ctypes.create_string_buffer(16)
    libc_call("getrlimit", number, before)
    # Only a privileged process may raise the second one.
    most = min(most, *struct.unpack("QQ", before.raw))
    libc_call("setrlimit", number, struct.pack("QQ", most, most))


def _become_nobody() -> None:
    # A container may not have this user.
    with suppress(OSError):
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _allow_calls(machine: str) -> bool:
    # A 32-bit program has other numbers.
    if machine not in _ALLOWED or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    code = _program(*_ALLOWED[machine])
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None)
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, program, 0, 0) == 0)


def _program(architecture: int, allowed: dict[str, int]) -> bytes:
    """Return a filter (struct sock_filter of the kernel's filter.h) that makes all other calls fail with EPERM."""
    numbers = sorted(allowed.values())
    steps = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        *((_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
