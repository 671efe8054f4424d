"""Ask the init of a guest to power off or to reboot, in a way that it understands."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from enum import StrEnum

# What programs that are an init do at a signal, by the names of the programs: power off, and reboot.
_SIGNALS = {
    "systemd": ("SIGRTMIN+4", "SIGRTMIN+5"),
    "busybox": ("SIGUSR2", "SIGTERM"),
    "toybox": ("SIGUSR2", "SIGTERM"),
    "finit": ("SIGUSR2", "SIGTERM"),
    "openrc-init": ("SIGTERM", "SIGINT"),
    "dinit": ("SIGTERM", "SIGINT"),
}
# Of these, the first that any other init catches. The last one ends what is no init.
_OTHERS = (("SIGPWR", "SIGTERM"), ("SIGINT", "SIGTERM"))
# As glibc counts, with which systemd is built; other C libraries keep more for themselves.
_SIGRTMIN = 34
# Runit looks for these files, and whether the owner may execute them, when it gets SIGCONT (runit-init(8)).
_RUNIT_STOP, _RUNIT_REBOOT = "/etc/runit/stopit", "/etc/runit/reboot"
# SysV init reads a FIFO of its own.
_FIFOS = ("/run/initctl", "/dev/initctl", "/etc/.initctl")


class Wish(StrEnum):
    """What an init can be asked for, by the runlevel that means it."""

    POWER_OFF = "0"
    REBOOT = "6"


def ask_init(pid: int, handle: int, wish: Wish, request: bytes, served: int) -> str:
    """Ask a process, whose pidfd ``handle`` is, and return how; raise OSError.

    ``request`` is what was read from the FIFO ``served``; an init with a FIFO of its own gets it as it is.
    """
    name = program_of(pid)
    if name == "init" and (fifo := _pass_on(request, served)):
        return f"passed on to {fifo}"
    if name == "runit":
        with suppress(OSError):
            _mark(_RUNIT_STOP, 0o100)
            _mark(_RUNIT_REBOOT, 0o100 if wish is Wish.REBOOT else 0)
            signal.pidfd_send_signal(handle, signal.SIGCONT)
            return f"SIGCONT for {name}, with {_RUNIT_STOP}"
    chosen = signal_for(name, wish, *_handled(pid))
    signal.pidfd_send_signal(handle, number_of(chosen))
    return f"{chosen} for {name}"


def program_of(pid: int) -> str:
    """Return the name of the program that a process runs; raise OSError if there is no such process."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)"))
    except PermissionError:
        # It is in another user namespace. Names of 15 characters are cut, but none of ours.
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")


def signal_for(name: str, wish: Wish, caught: int, blocked: int) -> str:
    """Return the signal for a wish; the masks, as in /proc/PID/status, say what the process does with signals.

    What is blocked is waited for by other means, such as signalfd(2).
    """
    which = 0 if wish is Wish.POWER_OFF else 1
    if name in _SIGNALS:
        return _SIGNALS[name][which]
    for mask in (caught, blocked):
        for candidate in _OTHERS[which]:
            if mask >> (number_of(candidate) - 1) & 1:
                return candidate
    return _OTHERS[which][-1]


def number_of(name: str) -> int:
    """Return the number of a signal such as SIGTERM or SIGRTMIN+4."""
    base, _, more = name.partition("+")
    return _SIGRTMIN + int(more) if more else signal.Signals[base].value


def _handled(pid: int) -> tuple[int, int]:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line)
    return int(fields["SigCgt"], 16), int(fields["SigBlk"], 16)


def _mark(path: str, mode: int) -> None:
    place = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        os.fchmod(place, mode)
    finally:
        os.close(place)


def _pass_on(request: bytes, served: int) -> str | None:
    """Write a request to a FIFO that an init reads; return its name, None if there is none but that which is served."""
    for path in _FIFOS:
        with suppress(OSError):
            # An error without a reader.
            place = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                if not os.path.samestat(os.fstat(place), os.fstat(served)):
                    os.write(place, request)
                    return path
            finally:
                os.close(place)
    return None
