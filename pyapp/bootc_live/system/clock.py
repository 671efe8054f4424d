"""A floor for the wall clock: a machine with an empty battery wakes in 1970, where no certificate is valid."""

from __future__ import annotations

import time
from collections.abc import Callable

BUILT = "/usr/lib/bootc-live/built"


def raise_clock(
    path: str = BUILT, *, now: Callable[[], float] = time.time, set_clock: Callable[[float], None] | None = None
) -> str | None:
    """Set a wall clock that is behind the time in a file to that time; gives a sentence about it, or None.

    The file holds decimal seconds since 1970 (UTC): when the initramfs was
    built. No file, or a clock that is ahead of it: nothing is done. A clock that
    cannot be set is not fatal; the sentence says so.
    """
    try:
        with open(path, encoding="ascii") as file:
            floor = float(file.read(64))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return f"the build time in {path!r} cannot be read ({error}); the clock stays as it is"
    wrong = now()
    if wrong >= floor:
        return None
    behind = f"the clock said {_utc(wrong)}, before this initramfs was built"
    try:
        (set_clock or _set_clock)(floor)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        return f"{behind}, and could not be set ({reason}): certificates may look as if they were not valid yet"
    return f"{behind}; it was set to {_utc(floor)}"


def _set_clock(seconds: float) -> None:
    time.clock_settime(time.CLOCK_REALTIME, seconds)


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
