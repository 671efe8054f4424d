"""Correct a wall clock that is too early, as after an empty battery: no certificate would be valid."""

from __future__ import annotations

import time
from collections.abc import Callable

from bootc_live.base.installed import BUILT


def raise_clock(
    path: str = BUILT, *, now: Callable[[], float] = time.time, set_clock: Callable[[float], None] | None = None
) -> str | None:
    """Set a wall clock that is earlier than the build time of the initramfs to that time; return a message or None.

    The file has the build time as seconds since 1970 (UTC); without it nothing is done. If the clock cannot be set, the
    message says so.
    """
    try:
        with open(path, encoding="ascii") as file:
            floor = float(file.read(64))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return f"the build time in {path!r} cannot be read ({error}); the clock is not changed"
    wrong = now()
    if wrong >= floor:
        return None
    behind = f"the clock was {_utc(wrong)}, before this initramfs was built"
    try:
        (set_clock or _set_clock)(floor)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        return f"{behind}, and could not be set ({reason}): certificates may seem to be not yet valid"
    return f"{behind}; it was set to {_utc(floor)}"


def _set_clock(seconds: float) -> None:
    time.clock_settime(time.CLOCK_REALTIME, seconds)


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
