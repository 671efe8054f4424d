"""Land on a machine without systemd, or with one that has no soft reboot: its first process becomes the new init.

The kernel stays, and with it addresses, routes and devices.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from bootc_live.base.errors import LandingError
from bootc_live.base.paths import resolve_below
from bootc_live.landing.pivot.root_landing import PIVOTED, RootLanding
from bootc_live.landing.pivot.takeover.switch import PLACES, check_first_process, take_over
from bootc_live.rootfs.writable.live_root import MountedRoot
from bootc_live.system.cleanup.guard import call_in_parent

_SYSTEMD = "systemd"


@dataclass
class TakeoverLanding(RootLanding):
    """Ends all processes but the first, which becomes the init of a mounted root; a ``Landing``.

    ``say`` gets the last message of this system.
    """

    way = "takeover"
    say: Callable[[str], None] = field(kw_only=True)

    def check(self) -> None:
        """Raise LandingError if the first process cannot be taken over."""
        # Only the parent has the mounts of the first process.
        call_in_parent(check_first_process)

    def examine(self, made: MountedRoot) -> list[str]:
        """Raise LandingError for a root without an init, or without places for the kernel's file systems."""
        warnings = super().examine(made)
        for name in PLACES:
            path = os.path.join(made.path, name)
            if os.path.islink(path) or not os.path.isdir(path):
                raise LandingError(f"{made.source_text!r} has no directory /{name}", hint="make one in the image")
        if not self._starts_systemd(made):
            if self.rollback_after is not None:
                raise LandingError(
                    f"--rollback-after needs systemd, and {made.source_text!r} has another init",
                    hint="leave --rollback-after out",
                )
            # Units would only make its programs believe that systemd runs.
            self.files = {PIVOTED: ""}
        return warnings

    def _starts_systemd(self, made: MountedRoot) -> bool:
        path = resolve_below(made.path, self.program.path)
        return path is not None and os.path.basename(path) == _SYSTEMD

    def ready(self) -> str:
        """Return a text about what is ready."""
        return "the first process can be taken over"

    def last_step(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Return the function that takes the first process over, and its first arguments."""
        return take_over, (self.program.path, list(self.program.argv))

    def commit(self) -> NoReturn:
        """Stop everything, and start the root's init as the first process; raise LandingError if nothing has ended."""
        self.say("all services and processes end now, this one and its connection too, and the new init starts")
        self.switch()
        raise AssertionError("the machine runs another system")
