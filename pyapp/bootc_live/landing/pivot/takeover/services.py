"""Stop what runs: services by their init, then all other processes by signals. The network stays up."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from bootc_live.base.errors import LandingError, RunError
from bootc_live.landing.pivot.takeover.tracing import HINT
from bootc_live.system.run import run

# They take addresses or links away when they are asked to end, and leave them when they are killed.
_NETWORK = (
    *("dhcpcd", "dhclient", "udhcpc", "wpa_supplicant", "iwd", "connmand", "pppd"),
    *("NetworkManager", "systemd-network"),
)
# Parts of the names of services that do the same.
_LEFT_ALONE = ("net", "dhc", "wpa", "iwd", "connman", "ppp", "NetworkManager")
_LEVEL = "run/openrc/softlevel"
_SECONDS_TO_STOP = 30
_SECONDS_TO_END = {signal.SIGTERM: 10.0, signal.SIGKILL: 5.0}
_LOOK = 0.02
# PF_KTHREAD of linux/sched.h, in the ninth field of proc_pid_stat(5).
_OF_KERNEL = 0x200000
# Whoever is started by a stop must not be waited for.
_QUIETLY = ("sh", "-c", 'exec timeout "$0" "$@" >/dev/null 2>&1', str(_SECONDS_TO_STOP))


def stop_commands(init: str, root: str = "/") -> list[list[str]]:
    """Return the commands that stop the services of an init, in their order; none for an init without services."""
    if os.path.exists(os.path.join(root, _LEVEL)):
        with open(os.path.join(root, _LEVEL), encoding="utf-8") as file:
            level = file.read().strip()
        return [["rc-service", "--ifstarted", name, "stop"] for name in _names(root, f"etc/runlevels/{level}")]
    if init == "runit":
        return [["sv", "-w", "10", "force-stop", f"/etc/service/{name}"] for name in _names(root, "etc/service")]
    if init == "init":
        return [[f"/etc/rc1.d/{name}", "stop"] for name in _names(root, "etc/rc1.d") if name.startswith("K")]
    return []


def _names(root: str, directory: str) -> list[str]:
    path = os.path.join(root, directory)
    names = sorted(os.listdir(path)) if os.path.isdir(path) else []
    return [name for name in names if not any(part in name for part in _LEFT_ALONE)]


def stop_services() -> None:
    """Let the init stop its services; what does not stop is left to ``end_processes``."""
    for argv in stop_commands(os.path.basename(os.readlink("/proc/1/exe"))):
        with suppress(RunError):
            run([*_QUIETLY, *argv])


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
