"""End processes by signals. The network stays up."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from bootc_live.base.errors import LandingError

HINT = "use --contain to run the root in namespaces, beside this system"
# Asked to end, they take addresses, links or rules of the firewall away; killed, they do not.
_NETWORK = (
    *("dhcpcd", "dhclient", "udhcpc", "wpa_supplicant", "iwd", "connmand", "pppd"),
    *("NetworkManager", "systemd-network", "firewalld"),
)
_SECONDS_TO_END = {signal.SIGTERM: 10.0, signal.SIGKILL: 5.0}
_LOOK = 0.02
# PF_KTHREAD of linux/sched.h, in the ninth field of proc_pid_stat(5).
_OF_KERNEL = 0x200000


def end_processes() -> None:
    """End all processes but the first, this one, and those of the kernel; raise LandingError if one stays."""
    left = _others()
    for pid, name in left:
        if name in _NETWORK:
            _send(pid, signal.SIGKILL)
    for number, seconds in _SECONDS_TO_END.items():
        _send(-1, number)
        # What is stopped would not notice.
        _send(-1, signal.SIGCONT)
        deadline = time.monotonic() + seconds
        while (left := _others()) and time.monotonic() < deadline:
            time.sleep(_LOOK)
        if not left:
            return
    names = ", ".join(f"{name} ({pid})" for pid, name in left)
    raise LandingError(f"processes do not end: {names}", hint=HINT)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _others(proc: str = "/proc") -> list[tuple[int, str]]:
    found = []
    for pid in {int(name) for name in os.listdir(proc) if name.isdigit()} - {1, os.getpid()}:
        with suppress(OSError), open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as file:
            if (name := running_program(file.read())) is not None:
                found.append((pid, name))
    return found


def running_program(stat: str) -> str | None:
    """Return the name of a process in proc_pid_stat(5); None for one that has ended, and for one of the kernel."""
    head, _, rest = stat.rpartition(") ")
    fields = rest.split()
    ended, of_kernel = fields[0] in "ZX", bool(int(fields[6]) & _OF_KERNEL)
    return None if ended or of_kernel else head.partition("(")[2]
