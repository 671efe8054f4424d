"""Land in the image's own kernel from a system that runs: the init stops everything, and starts the loaded kernel."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import NoReturn

from bootc_live.base.errors import LandingError
from bootc_live.config.cmdline.tokens import split_words
from bootc_live.landing.kexec.kexec import KexecLanding
from bootc_live.landing.pivot.network import Interface
from bootc_live.system.cleanup.guard import commit
from bootc_live.system.kexec import keep_loaded
from bootc_live.system.run import run

_ABLE = "/sys/kernel/kexec_loaded"
# What systemd runs at the very end (systemd.special(7), kexec.target); without it, the machine would reboot instead.
_PROGRAM = "/usr/sbin/kexec"
# Where a person sees the next kernel: the rest of a command line is about the root that it replaces.
_KEPT = ("console", "earlycon", "nomodeset")


@dataclass
class PivotByKexec(KexecLanding):
    """Starts the image's own kernel when all services of this system are stopped; a ``Landing``."""

    def check(self) -> None:
        """Raise LandingError if this kernel cannot load another one, or systemd cannot start it."""
        check_able("--via kexec", "leave --via out")

    def commit(self) -> NoReturn:
        """Ask systemd to stop everything and start the loaded kernel; raise RunError if it refuses."""
        self.recorder.say(self._summary)
        commit(stop_for_next_kernel)
        while True:
            # systemd ends this process with all others. If it went on, it would undo what it has made.
            signal.pause()

    @property
    def _may_continue(self) -> bool:
        """Whether this system is needed after a failure: its archives are files of somebody."""
        return True


def check_able(option: str, instead: str) -> None:
    """Raise LandingError about an option if this kernel cannot load another one, or systemd cannot start it."""
    if not os.path.exists(_ABLE):
        raise LandingError(f"'{option}' is not possible here: this kernel has no kexec", hint=instead)
    if not os.access(_PROGRAM, os.X_OK):
        raise LandingError(
            f"'{option}' is not possible here: there is no {_PROGRAM}, which systemd needs for it",
            hint=f"install kexec-tools, or {instead}",
        )


def stop_for_next_kernel() -> None:
    """Ask systemd to stop the system and to start the loaded kernel; raise RunError if it refuses."""
    # systemd may end its processes before systemctl has read the answer.
    run(["sh", "-c", "trap '' HUP TERM; exec systemctl --no-block kexec"])
    keep_loaded()


def next_kernel_cmdline(source: str, more: str, running: str, interfaces: tuple[Interface, ...]) -> str:
    """Return the command line of a boot of ``source``; ``running`` is that of this kernel.

    A machine without DHCP gets its first address from it, unless ``more`` has ip= (dracut.cmdline(7)).
    """
    kept = [word for word in split_words(running)[0] if word.partition("=")[0] in _KEPT]
    words = [f"root=bootc-live:{source}", *kept]
    if not any(word.startswith("ip=") for word in more.split()):
        words += [
            text for interface in interfaces[:1] if not interface.dynamic for text in [_address(interface)] if text
        ]
    return " ".join(filter(None, [*words, more]))


def _address(interface: Interface) -> str:
    """Return ip= for the first IPv4 address of a card; empty if it has none."""
    address = next((each for each in interface.addresses if ":" not in each), None)
    if address is None:
        return ""
    gateway = next((each.gateway for each in interface.routes if each.destination == "default"), "")
    host, _, length = address.partition("/")
    mask = (0xFFFFFFFF << (32 - int(length))) & 0xFFFFFFFF
    dotted = ".".join(str(mask >> shift & 255) for shift in (24, 16, 8, 0))
    return f"ip={host}::{gateway}:{dotted}::{interface.name}:none"
