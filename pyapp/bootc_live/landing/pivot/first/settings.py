"""What the first process has to know, as JSON in its root."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from bootc_live.base.errors import LandingError
from bootc_live.landing.pivot.network import Interface, Route
from bootc_live.landing.pivot.program import Program

FILE = "/etc/bootc-live.json"
# What systemd starts after a soft reboot, whatever the root is.
INIT = "/usr/lib/systemd/systemd"


class OnExit(StrEnum):
    """What follows when a program has ended that is no init."""

    REBOOT = "reboot"
    """The machine restarts, and the installed system starts again."""
    POWEROFF = "poweroff"
    SHELL = "shell"
    """A shell on the console; the machine restarts when that ends."""
    RETURN = "return"
    """The init of the old root starts again where the old root is kept; elsewhere the machine restarts."""


@dataclass(frozen=True)
class FirstSettings:
    """The program of the new root; without ``on_exit``, it is an init, which takes the place of this process.

    ``shell`` is for ``OnExit.SHELL``. Seconds after ``rollback_after``, the machine restarts unless somebody confirms.
    ``network`` is set again. ``old_root`` is where the old root is kept, and ``old_init`` its init.
    """

    program: Program
    on_exit: OnExit | None = None
    shell: Program | None = None
    rollback_after: int | None = None
    network: tuple[Interface, ...] = ()
    old_root: str | None = None
    old_init: str = "/sbin/init"

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what ``text`` gave."""
        data = json.loads(text)
        return cls(
            Program(**data["program"]),
            data["on_exit"] and OnExit(data["on_exit"]),
            data["shell"] and Program(**data["shell"]),
            data["rollback_after"],
            tuple(map(_interface, data["network"])),
            data["old_root"],
            data["old_init"],
        )


def check_on_exit(program: Program, source_text: str, on_exit: OnExit | None) -> None:
    """Raise LandingError if something is to follow the end of an init."""
    if program.init and on_exit is not None:
        raise LandingError(
            f"--on-exit is for programs that are no init, and {source_text!r} runs {program.argv[0]!r}, which is one",
            hint="leave --on-exit out",
        )


def _interface(data: Mapping[str, Any]) -> Interface:
    return Interface(**{**data, "routes": tuple(Route(**route) for route in data["routes"])})
