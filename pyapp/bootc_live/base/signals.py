"""Name signals."""

from __future__ import annotations

import signal


def signal_name(number: int) -> str:
    """Return the name of a signal; Python has none for most real-time signals."""
    return next((each.name for each in signal.Signals if each == number), f"SIGRTMIN+{number - signal.SIGRTMIN}")
