"""Look at the running machine: what its first process is, and what would end with a pivot."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from bootc_live.base.errors import RunError
from bootc_live.system.run import find_program, run

# systemd 254 has the soft reboot.
_SOFT_REBOOT = 254
_VERSION = re.compile(r"systemd ([0-9]+)")
_SYSTEMD = "/run/systemd/system"
# Where systemd looks for the next root, at the end of a soft reboot.
NEXT_ROOT = "/run/nextroot"


class Way(StrEnum):
    """A way to land on a running machine."""

    SOFT_REBOOT = "soft-reboot"
    """systemd stops everything, switches to the new root and starts again, with the same kernel."""
    TAKEOVER = "takeover"
    """All processes end but the first, whatever it is, and that one becomes the new root's init."""
    KEXEC = "kexec"
    """systemd stops everything, and the image's own kernel starts."""
    CONTAIN = "contain"
    """The root runs in namespaces, beside what runs already."""


@dataclass(frozen=True)
class Machine:
    """The system that runs: its first process, the version of systemd (0: another init), and what it runs."""

    init: str
    systemd: int
    services: tuple[str, ...]
    processes: int
    sessions: int


def running_machine(proc: str = "/proc") -> Machine:
    """Look at this machine, and change nothing."""
    systemd = _systemd_version() if os.path.isdir(_SYSTEMD) else 0
    services = _lines("systemctl", "list-units", "--type=service", "--state=running", "--no-legend", "--plain")
    sessions = _lines("loginctl", "list-sessions", "--no-legend")
    numbers = [name for name in os.listdir(proc) if name.isdigit()]
    return Machine(
        _first_process(proc),
        systemd,
        tuple(line.split()[0] for line in services if systemd and line.split()),
        # Threads of the kernel have no program.
        sum(os.path.lexists(f"{proc}/{number}/exe") and _has_program(proc, number) for number in numbers),
        len(sessions) if systemd else 0,
    )


def ways(machine: Machine) -> list[Way]:
    """Return the ways that this machine has, the best first."""
    found = [Way.SOFT_REBOOT] if machine.systemd >= _SOFT_REBOOT else []
    return [*found, Way.TAKEOVER, *([Way.KEXEC] if machine.systemd else []), Way.CONTAIN]


def soft_reboot_obstacle() -> str:
    """Return why this system has no soft reboot; empty if it has."""
    version = _systemd_version() if os.path.isdir(_SYSTEMD) else 0
    if version >= _SOFT_REBOOT:
        return ""
    return f"systemd {version} runs, and {_SOFT_REBOOT} is needed" if version else "systemd does not run"


def _systemd_version() -> int:
    found = _VERSION.match("\n".join(_lines("systemctl", "--version")))
    return int(found[1]) if found else 0


def _lines(*argv: str) -> list[str]:
    if find_program(argv[0]) is None:
        return []
    with suppress(RunError):
        return run(argv).splitlines()
    return []


def _first_process(proc: str) -> str:
    with suppress(OSError):
        return os.path.basename(os.readlink(f"{proc}/1/exe"))
    with suppress(OSError), open(f"{proc}/1/comm", encoding="utf-8") as file:
        return file.read().strip()
    return "unknown"


def _has_program(proc: str, number: str) -> bool:
    with suppress(OSError):
        return bool(os.readlink(f"{proc}/{number}/exe"))
    return False
