"""Signals that ask the program to end, turned into one exception that cleaning up can rely on (signal(7))."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What came while it was held off; None while nothing is held off.
_held: list[int] | None = None


class Interrupted(KeyboardInterrupt):
    """One of these signals came.

    A class of its own, because Python ends by SIGINT whatever its exit code if a plain KeyboardInterrupt once
    passed through exec(), which dataclasses use.
    """


def interrupt_once() -> None:
    """Make the first of these signals raise Interrupted; later ones would break off its work and do nothing."""
    for number in _ENDING:
        signal.signal(number, _interrupted)


def ignore_interrupts() -> None:
    """Let none of them through any more: what follows is done to its end."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def held_off() -> Iterator[None]:
    """Let an interruption wait for the end of the block, which has to be short."""
    global _held  # noqa: PLW0603 (there is one main thread, and signals interrupt no other)
    if _held is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    came = _held = []
    try:
        yield
    finally:
        _held = None
        if came:
            raise Interrupted(signal.Signals(came[0]).name)


def _interrupted(number: int, _frame: FrameType | None) -> None:
    ignore_interrupts()
    if _held is not None:
        _held.append(number)
        return
    raise Interrupted(signal.Signals(number).name)
