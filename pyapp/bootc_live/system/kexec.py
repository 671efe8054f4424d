"""The kernel's side of kexec: load another kernel, and go on in it (kexec_file_load(2), reboot(2))."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.errors import LandingError, OutOfMemoryError, RunError
from bootc_live.base.threads import background_thread
from bootc_live.base.units import mib
from bootc_live.system.cleanup.guard import undone
from bootc_live.system.memory import available_bytes
from bootc_live.system.run import find_program, run

# Numbers of the system call; newer architectures share one.
_NUMBERS = {"x86_64": 320, "s390x": 381, "ppc64le": 382}
_NEWER = 294
_UNLOAD = 1
_REBOOT_KEXEC = 0x45584543
_LOOK = 0.002
_DISABLED = "/proc/sys/kernel/kexec_load_disabled"
_LOCKDOWN = "/sys/kernel/security/lockdown"
_SIGNATURE = {
    errno.ENODATA: "it carries no signature",
    errno.EKEYREJECTED: "its signature is by a key that this kernel does not trust, or does not fit it",
    errno.ENOKEY: "its signature is by a key that this kernel does not know",
    errno.EBADMSG: "its signature is damaged",
    errno.ENOPKG: "its signature is of a kind that this kernel cannot check",
    errno.ELIBBAD: "its signature is damaged",
}
_HINT = "boot the machine with another image, or without bootc.kexec"
_SIGNED = "use an image whose kernel is signed by a key that firmware or kernel trust, or boot without bootc.kexec"
_FULL = frozenset({errno.ENOMEM, errno.EADDRNOTAVAIL, errno.ENOBUFS})


@contextmanager
def loaded_kernel(kernel: str, initrd: str, cmdline: str, used_up: Callable[[], None]) -> Iterator[str]:
    """Have another kernel loaded while the block runs, with the initrd and the command line; gives by which call.

    ``used_up`` is called once the kernel has read both files, which is before it makes its last copy of them: memory
    they take is better given back by then. Raises LandingError with the reason, OutOfMemoryError and RunError.
    """
    with undone(_unload):
        yield _load(kernel, initrd, cmdline, used_up)


def _unload() -> None:
    """Unload what is loaded: the next reboot might start it."""
    with suppress(OSError, RunError):
        try:
            _call(-1, -1, b"", _UNLOAD)
        except OSError as error:
            program = find_program("kexec")
            if error.errno == errno.ENOSYS and program is not None:
                run([program, "--kexec-syscall", "--unload"], hint=_HINT)


def exec_loaded_kernel() -> None:
    """Start the kernel that is loaded; returns only by raising LandingError."""
    os.sync()
    library = ctypes.CDLL(None, use_errno=True)
    library.reboot(ctypes.c_int(_REBOOT_KEXEC))
    raise LandingError(f"the loaded kernel cannot be started: {os.strerror(ctypes.get_errno())}", hint=_HINT)


def _load(kernel: str, initrd: str, cmdline: str, used_up: Callable[[], None]) -> str:
    with open(kernel, "rb") as one, open(initrd, "rb") as other:
        size = os.fstat(one.fileno()).st_size + os.fstat(other.fileno()).st_size
        try:
            with _told_when_read(size, used_up):
                _call(one.fileno(), other.fileno(), os.fsencode(cmdline), 0)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                return _load_by_program(kernel, initrd, cmdline, used_up)
            raise _explained(error, size) from error
    return "kexec_file_load"


def _load_by_program(kernel: str, initrd: str, cmdline: str, used_up: Callable[[], None]) -> str:
    program = find_program("kexec")
    if program is None:
        raise LandingError(
            "this kernel cannot load another one from files (kexec_file_load), and the program kexec is missing",
            hint="install kexec-tools on the machine that builds the initramfs, and add the module bootc-live-kexec",
        )
    run([program, "--kexec-syscall", "--load", kernel, f"--initrd={initrd}", f"--command-line={cmdline}"], hint=_HINT)
    used_up()
    return "kexec_load"


def _call(kernel: int, initrd: int, cmdline: bytes, flags: int) -> None:
    number = _NUMBERS.get(os.uname().machine, _NEWER)
    text = ctypes.create_string_buffer(cmdline) if cmdline else None
    arguments = (
        ctypes.c_long(number),
        ctypes.c_int(kernel),
        ctypes.c_int(initrd),
        ctypes.c_ulong(0 if text is None else len(text)),
        text,
        ctypes.c_ulong(flags),
    )
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    if library.syscall(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@contextmanager
def _told_when_read(size: int, tell: Callable[[], None]) -> Iterator[None]:
    """Call ``tell`` as soon as this thread has read so many bytes, by the kernel's own count of them."""
    path = f"/proc/self/task/{threading.get_native_id()}/io"
    begin, done = _characters_read(path), threading.Event()

    def watch() -> None:
        while begin is not None and not done.wait(_LOOK):
            now = _characters_read(path)
            if now is not None and now - begin >= size:
                tell()
                return

    with background_thread(watch, done.set, "kexec"):
        yield


def _characters_read(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("rchar:"))
    except (OSError, StopIteration):
        return None


def _explained(error: OSError, size: int) -> Exception:
    """Give the error that tells a person why the kernel refuses another one."""
    code = error.errno or 0
    if code in _FULL:
        return OutOfMemoryError(
            f"the next kernel and its initrd do not fit: {mib(2 * size)} are needed, "
            f"{mib(available_bytes())} available",
            hint="give the machine more memory, or boot with bootc.kexec.reuse-image=0",
        )
    if code == errno.EFBIG:
        return LandingError(
            f"the next kernel and its initrd take {mib(size)}, more than the kernel's call takes (4 GiB)",
            hint="boot with bootc.kexec.reuse-image=0, or make the image's initramfs smaller",
        )
    if code == errno.EPERM:
        return LandingError(f"this kernel refuses to load another one: {_forbidden()}", hint=_SIGNED)
    if code in _SIGNATURE:
        return LandingError(f"this kernel refuses the image's kernel: {_SIGNATURE[code]}", hint=_SIGNED)
    if code == errno.ENOEXEC:
        return LandingError("the image's kernel is of no format that this kernel can load", hint=_HINT)
    return LandingError(f"this kernel cannot load the image's kernel: {error.strerror}", hint=_HINT)


def _forbidden() -> str:
    if _read(_DISABLED).strip() == "1":
        return "kexec is switched off (kernel.kexec_load_disabled)"
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
