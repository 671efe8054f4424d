"""Land on a machine without systemd, or with one that has no soft reboot: its first process becomes the new init.

The kernel stays, and with it addresses, routes and devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from bootc_live.landing.pivot.root_landing import RootLanding
from bootc_live.landing.pivot.takeover.switch import check_first_process, take_over
from bootc_live.system.cleanup.guard import call_in_parent


@dataclass
class TakeoverLanding(RootLanding):
    """Ends all processes but the first, which becomes the init of a mounted root; a ``Landing``.

    ``say`` gets the last message of this system.
    """

    way = "takeover"
    say: Callable[[str], None] = field(kw_only=True)

    def check(self) -> None:
        """Raise LandingError if the first process cannot be taken over, or an option is not possible."""
        super().check()
        # Only the parent has the mounts of the first process.
        call_in_parent(check_first_process)

    def starts_itself(self) -> bool:
        """Return whether the first process can become the program of the root: any init."""
        return self.program.init

    def ready(self) -> str:
        """Return a text about what is ready."""
        return "the first process can be taken over"

    def last_step(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Return the function that takes the first process over, and its first arguments."""
        return take_over, (*self.init(), self.flush_firewall)

    def commit(self) -> NoReturn:
        """Stop everything, and start the root's init as the first process; raise LandingError if nothing has ended."""
        self.say("all services and processes end now, this one and its connection too, and the new init starts")
        self.switch()
        raise AssertionError("the machine runs another system")
