"""Switch a machine to another root, and its first process to the init there.

After the last process but the first has ended, there is no way back: whatever fails then ends in a restart.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import NoReturn

from bootc_live.base.errors import BootcLiveError, LandingError
from bootc_live.landing.pivot.firewall import flush_firewall
from bootc_live.landing.pivot.first.places import PLACES, clear_run, switch_root
from bootc_live.landing.pivot.program import SEARCH_PATH
from bootc_live.landing.pivot.takeover.hardware import check_watchdogs, end_swap, held_watchdogs
from bootc_live.landing.pivot.takeover.processes import HINT, end_processes
from bootc_live.landing.pivot.takeover.services import start_services, stop_services
from bootc_live.landing.pivot.takeover.tracing import MACHINE, FirstProcess
from bootc_live.landing.pivot.units import written_files
from bootc_live.receipt.file import written_receipt
from bootc_live.system.files import write_all
from bootc_live.system.mounts import attach_tree, is_mount_point, unmount
from bootc_live.system.namespaces import make_private
from bootc_live.system.system_call import libc_call

_NEXT = "/run/nextroot"
_TRACEME, _WALL, _RESTART = 0, 0x40000000, 0x01234567
_ELF_OF_64_BITS = b"\x7fELF\x02"


def check_first_process() -> None:
    """Raise LandingError if the first process of this machine cannot be taken over; stop it for a moment to see."""
    machine = os.uname().machine
    if machine != MACHINE:
        raise LandingError(f"the first process can be taken over on {MACHINE} only, and this is {machine}", hint=HINT)
    try:
        with open("/proc/1/exe", "rb") as file:
            header = file.read(len(_ELF_OF_64_BITS))
        check_watchdogs()
        same = os.path.samefile("/proc/1/ns/mnt", "/proc/self/ns/mnt") and os.path.samefile("/proc/1/root", "/")
    except OSError as error:
        raise LandingError(f"the first process cannot be looked at: {error.strerror}", hint=HINT) from error
    if header != _ELF_OF_64_BITS:
        raise LandingError("the first process is not a program of 64 bits, and cannot be taken over", hint=HINT)
    if not same:
        raise LandingError("the first process has other mounts than this program", hint=HINT)
    for place in PLACES:
        if not is_mount_point(f"/{place}"):
            raise LandingError(f"/{place} is not a file system of its own, and cannot move to a new root", hint=HINT)
    if not is_mount_point("/") or _root_is_fixed():
        raise LandingError("the root is that of an initramfs or of chroot(2), which cannot be replaced", hint=HINT)
    FirstProcess.stop().let_go()


def _root_is_fixed(mountinfo: str = "/proc/self/mountinfo") -> bool:
    """Return whether the root is the kernel's first mount (pivot_root(2))."""
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        kinds = [line.partition(" - ")[2].split()[0] for line in file if line.split()[4] == "/"]
    return kinds == ["rootfs"]


def take_over(
    tree: int,
    path: str,
    argv: list[str],
    flush: bool,
    receipt: dict[str, object],
    receipt_path: str,
    files: dict[str, str],
) -> NoReturn:
    """Switch to a detached tree of mounts, and run ``path`` there as the first process; this process ends.

    ``files`` are written by ``written_files``; ``flush`` removes the firewall's rules. Raise LandingError while
    everything can still go on as before.
    """
    try:
        check_startable(tree, path, argv)
        with written_receipt(receipt, receipt_path):
            first = _stop_first_process()
    except BaseException:
        os.close(tree)
        raise
    _go_over(tree, first, path, argv, files, flush=flush)


def _stop_first_process() -> FirstProcess:
    """Stop services and the first process; raise LandingError if it does not stop, and all goes on as before."""
    stopped = stop_services()
    try:
        # From here on it starts nothing again, and does not take the end of its services for a shutdown.
        first = FirstProcess.stop()
        try:
            for descriptor in held_watchdogs():
                first.stop_watchdog(descriptor)
        except OSError as error:
            first.let_go()
            raise LandingError(
                f"the watchdog of the first process does not stop: {error.strerror}", hint=HINT
            ) from error
    except BaseException:
        start_services(stopped)
        raise
    return first


def check_startable(tree: int, path: str, argv: list[str]) -> None:
    """Raise LandingError if the kernel does not start a program in a tree of mounts; it is not run."""
    child = os.fork()
    if child == 0:
        try:
            libc_call("ptrace", _TRACEME, 0, 0, 0)
            os.fchdir(tree)
            os.chroot(".")
            os.execve(path, argv, {})  # noqa: S606
        finally:
            os._exit(127)
    # It stops before its first instruction.
    _, status = os.waitpid(child, _WALL)
    if not os.WIFSTOPPED(status):
        raise LandingError(f"the kernel does not start {path!r} in the new root", hint="use another image")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, _WALL)


def _go_over(
    tree: int, first: FirstProcess, path: str, argv: list[str], files: dict[str, str], *, flush: bool
) -> NoReturn:
    """Do what cannot be undone; restart the machine if it fails.

    When the root has been replaced, Python could no longer load a module: everything is imported above.
    """
    reason = "a fault of the program"
    console = _open_console()
    try:
        environment = _environment()
        end_processes()
        end_swap()
        if flush:
            with suppress(OSError, BootcLiveError):
                flush_firewall()
        clear_run()
        with written_files(files):
            _replace_root(tree)
            first.become(path, argv, environment)
        # The new init waits for this process to let it go, and for nothing else.
        with suppress(OSError):
            unmount(".")
        with suppress(OSError):
            first.detach()
        os._exit(0)
    except BootcLiveError as error:
        reason = error.message
    except OSError as error:
        reason = str(error)
    finally:
        with suppress(OSError):
            write_all(console, f"bootc-live: the pivot failed, and the machine restarts: {reason}\r\n".encode())
        os.sync()
        with suppress(OSError):
            libc_call("reboot", _RESTART)
        os._exit(1)


def _open_console() -> int:
    with suppress(OSError):
        return os.open("/dev/console", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    return -1


def _environment() -> dict[str, str]:
    """Return what the kernel gives an init, and what says that this is a container."""
    with open("/proc/1/environ", encoding="utf-8", errors="surrogateescape") as file:
        given = [word for word in file.read().split("\0") if word.startswith("container=")]
    return {"HOME": "/", "TERM": "linux", "PATH": SEARCH_PATH, **dict(word.split("=", 1) for word in given)}


def _replace_root(tree: int) -> None:
    """Make a tree of mounts the root, with the kernel's file systems; the old root lies over it at "."."""
    make_private("/")
    os.makedirs(_NEXT, exist_ok=True)
    attach_tree(tree, _NEXT)
    switch_root(tree)
    with suppress(OSError):
        os.rmdir(_NEXT)
