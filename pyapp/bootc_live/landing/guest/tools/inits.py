"""Ask the init of a guest to power off or to reboot, in a way that it understands."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

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


@dataclass(frozen=True)
class Way:
    """How an init is asked, and what does that; the call raises OSError."""

    text: str
    ask: Callable[[], object]


def way_to_ask(pid: int, handle: int, wish: Wish, request: bytes, served: int) -> Way:
    """Return how to ask a process, whose pidfd ``handle`` is; raise OSError.

    ``request`` is what was read from the FIFO ``served``; an init with a FIFO of its own gets it as it is.
    """
    name = program_of(pid)
    if name == "init" and (fifo := _fifo_of_init(served)):
        return Way(f"passed on to {fifo}", partial(_write, fifo, request))
    chosen, more = signal_for(name, wish, *_handled(pid)), ""
    if name == "runit":
        with suppress(OSError):
            _mark(_RUNIT_STOP, 0o100)
            _mark(_RUNIT_REBOOT, 0o100 if wish is Wish.REBOOT else 0)
            chosen, more = "SIGCONT", f", with {_RUNIT_STOP}"
    return Way(f"{chosen} for {name}{more}", partial(signal.pidfd_send_signal, handle, number_of(chosen)))


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


def _fifo_of_init(served: int) -> str | None:
    """Return the name of a FIFO that an init reads; None if there is none but that which is served."""
    for path in _FIFOS:
        with suppress(OSError):
            place = _open_fifo(path)
            try:
                if not os.path.samestat(os.fstat(place), os.fstat(served)):
                    return path
            finally:
                os.close(place)
    return None


def _write(path: str, request: bytes) -> None:
    place = _open_fifo(path)
    try:
        os.write(place, request)
    finally:
        os.close(place)


def _open_fifo(path: str) -> int:
    # An error without a reader.
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
