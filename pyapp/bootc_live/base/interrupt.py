"""Signals that ask the program to end, turned into one KeyboardInterrupt that cleaning up can rely on (signal(7))."""

from __future__ import annotations

import signal
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt_once() -> None:
    """Make the first of these signals raise KeyboardInterrupt; later ones would break off its work and do nothing."""
    for number in _ENDING:
        signal.signal(number, _interrupted)


def ignore_interrupts() -> None:
    """Let none of them through any more: what follows is done to its end."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


def _interrupted(number: int, _frame: FrameType | None) -> None:
    ignore_interrupts()
    raise KeyboardInterrupt(signal.Signals(number).name)
