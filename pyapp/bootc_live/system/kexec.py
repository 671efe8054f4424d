"""Load another kernel and start it (kexec_file_load(2), reboot(2))."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.errors import LandingError, OutOfMemoryError, RunError
from bootc_live.base.threads import background_thread
from bootc_live.base.units import mib
from bootc_live.system.cleanup.guard import undo_at_end
from bootc_live.system.memory import available_bytes
from bootc_live.system.run import find_program, run
from bootc_live.system.system_call import libc_call, system_call

# Numbers of kexec_file_load(2); newer architectures share one.
_NUMBERS = {"x86_64": 320, "s390x": 381, "ppc64le": 382}
_NEWER = 294
_UNLOAD = 1
_REBOOT_KEXEC = 0x45584543
_INTERVAL = 0.002
_DISABLED = "/proc/sys/kernel/kexec_load_disabled"
_LOCKDOWN = "/sys/kernel/security/lockdown"
_SIGNATURE = {
    errno.ENODATA: "it is not signed",
    errno.EKEYREJECTED: "its signature does not match, or is by a key that this kernel does not trust",
    errno.ENOKEY: "its signature is by a key that this kernel does not know",
    errno.EBADMSG: "its signature is damaged",
    errno.ENOPKG: "this kernel cannot check its type of signature",
    errno.ELIBBAD: "its signature is damaged",
}
_HINT = "use another kernel"
_SIGNED = "use a kernel that is signed by a key that the firmware or this kernel trusts"
_FULL = frozenset({errno.ENOMEM, errno.EADDRNOTAVAIL, errno.ENOBUFS})


@contextmanager
def loaded_kernel(kernel: str, initrd: str, cmdline: str, after_read: Callable[[], None]) -> Iterator[str]:
    """Load a kernel with initrd and command line for the block; yields the name of the system call.

    Calls ``after_read`` when the kernel has read both files, before it makes its last copy of them: their memory can
    be freed then. Raises LandingError with the reason, OutOfMemoryError and RunError.
    """
    with undo_at_end(_unload):
        yield _load(kernel, initrd, cmdline, after_read)


def keep_loaded() -> None:
    """Keep the kernel loaded when this process ends: the init is about to start it."""
    _kept.set()


def _unload() -> None:
    """Unload the kernel, which the next reboot might start."""
    if _kept.is_set():
        return
    with suppress(OSError, RunError):
        try:
            _call(-1, -1, b"", _UNLOAD)
        except OSError as error:
            program = find_program("kexec")
            if error.errno == errno.ENOSYS and program is not None:
                run([program, "--kexec-syscall", "--unload"], hint=_HINT)


def exec_loaded_kernel() -> None:
    """Start the loaded kernel; raises LandingError, and never returns otherwise."""
    os.sync()
    try:
        libc_call("reboot", _REBOOT_KEXEC)
    except OSError as error:
        raise LandingError(f"the loaded kernel cannot be started: {error.strerror}", hint=_HINT) from error


def _load(kernel: str, initrd: str, cmdline: str, after_read: Callable[[], None]) -> str:
    with open(kernel, "rb") as one, open(initrd, "rb") as other:
        size = os.fstat(one.fileno()).st_size + os.fstat(other.fileno()).st_size
        try:
            with _calling_after_read(size, after_read):
                _call(one.fileno(), other.fileno(), os.fsencode(cmdline), 0)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                return _load_by_program(kernel, initrd, cmdline, after_read)
            raise _refusal(error, size) from error
    return "kexec_file_load"


def _load_by_program(kernel: str, initrd: str, cmdline: str, after_read: Callable[[], None]) -> str:
    program = find_program("kexec")
    if program is None:
        raise LandingError(
            "this kernel has no kexec_file_load(2), and the program 'kexec' is missing",
            hint="install kexec-tools",
        )
    run([program, "--kexec-syscall", "--load", kernel, f"--initrd={initrd}", f"--command-line={cmdline}"], hint=_HINT)
    after_read()
    return "kexec_load"


def _call(kernel: int, initrd: int, cmdline: bytes, flags: int) -> None:
    number = _NUMBERS.get(os.uname().machine, _NEWER)
    # The length includes the NUL that ctypes appends.
    length = len(cmdline) + 1 if cmdline else 0
    system_call(number, kernel, initrd, length, cmdline or None, flags)


@contextmanager
def _calling_after_read(size: int, call: Callable[[], None]) -> Iterator[None]:
    """Call ``call`` as soon as this thread has read ``size`` bytes, as counted by the kernel."""
    path = f"/proc/self/task/{threading.get_native_id()}/io"
    begin, done = _characters_read(path), threading.Event()

    def watch() -> None:
        while begin is not None and not done.wait(_INTERVAL):
            now = _characters_read(path)
            if now is not None and now - begin >= size:
                call()
                return

    with background_thread(watch, done.set, "kexec"):
        yield


def _characters_read(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("rchar:"))
    except (OSError, StopIteration):
        return None


def _refusal(error: OSError, size: int) -> Exception:
    """Return the error for a refused kernel."""
    code = error.errno or 0
    if code in _FULL:
        return OutOfMemoryError(
            f"the next kernel and its initrd need {mib(2 * size)} of memory, {mib(available_bytes())} are available",
            hint="give the machine more memory",
        )
    if code == errno.EFBIG:
        return LandingError(
            f"the next kernel and its initrd have {mib(size)}, the limit of kexec is 4 GiB",
            hint="use a smaller initramfs",
        )
    if code == errno.EPERM:
        return LandingError(f"this kernel refuses to load another one: {_forbidden()}", hint=_SIGNED)
    if code in _SIGNATURE:
        return LandingError(f"this kernel refuses the image's kernel: {_SIGNATURE[code]}", hint=_SIGNED)
    if code == errno.ENOEXEC:
        return LandingError("the image's kernel has a format that this kernel cannot load", hint=_HINT)
    return LandingError(f"this kernel cannot load the image's kernel: {error.strerror}", hint=_HINT)


def _forbidden() -> str:
    if _read(_DISABLED).strip() == "1":
        return "kexec is disabled (kernel.kexec_load_disabled)"
    locked = _read(_LOCKDOWN).partition("[")[2].partition("]")[0]
    if locked not in ("", "none"):
        return (
            f"it is locked down (lockdown={locked}, as under Secure Boot), "
            "and the image's kernel is not signed by a key that it trusts"
        )
    return "the image's kernel is not signed by a key it trusts (lockdown), or kexec is forbidden to this process"


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


_kept = threading.Event()
