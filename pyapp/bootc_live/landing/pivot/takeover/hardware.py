"""What would be left running without the old system: a watchdog that its first process feeds, and swap on its disks."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from bootc_live.base.errors import LandingError
from bootc_live.system.system_call import libc_call

_WATCHDOG = re.compile(r"/dev/watchdog(\d*)")
# It stays in RAM, whatever the root is.
_IN_RAM = "/dev/zram"


def held_watchdogs(process: str = "/proc/1") -> dict[int, str]:
    """Return the watchdogs that a process has open, by descriptor; raise OSError."""
    found = {}
    for name in os.listdir(f"{process}/fd"):
        with suppress(FileNotFoundError):
            target = os.readlink(f"{process}/fd/{name}")
            if _WATCHDOG.fullmatch(target):
                found[int(name)] = target
    return found


def check_watchdogs(process: str = "/proc/1", sys: str = "/sys/class/watchdog") -> None:
    """Raise LandingError if the first process feeds a watchdog that nobody can stop; raise OSError."""
    for path in held_watchdogs(process).values():
        number = path.removeprefix("/dev/watchdog") or "0"
        with suppress(FileNotFoundError), open(f"{sys}/watchdog{number}/nowayout", encoding="ascii") as file:
            if file.read().strip() == "1":
                raise LandingError(
                    f"the first process feeds {path}, which cannot be stopped (nowayout), and would reset the machine",
                    hint="let the init not use it, such as with RuntimeWatchdogSec=0, and boot again",
                )


def end_swap(swaps: str = "/proc/swaps") -> None:
    """Use no swap on disks any more, as far as memory does without; raise OSError."""
    for path in swap_on_disks(swaps):
        with suppress(OSError):
            libc_call("swapoff", path)


def swap_on_disks(swaps: str = "/proc/swaps") -> list[bytes]:
    """Return the paths of swap that is not in RAM (proc_swaps(5)); raise OSError."""
    with open(swaps, "rb") as file:
        paths = [line.split()[0] for line in file.readlines()[1:] if line.strip()]
    return [path.replace(rb"\040", b" ") for path in paths if not path.startswith(_IN_RAM.encode())]
