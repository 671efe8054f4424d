"""Signals that ask the program to end, turned into one exception that cleaning up can rely on (signal(7)).

Four things would keep such an exception from coming, or make it do harm:

* Python acts on a signal between two of its own instructions. One that comes just before the main thread begins to wait
  is acted on when the wait is over, which may be never. So a thread sends it again until it was acted on.
* A finalizer in which it is raised swallows it. It is sent again then, too.
* Locks of the standard library are written in Python: raised in the middle of taking one, it leaves it taken, and
  whoever needs it next hangs. There it waits until the main thread is elsewhere, or has stood in one place for so
  long that it must be waiting there, which may be broken off. So does tempfile, between making a directory and
  noting that it is to be removed.
* Between the halves of a context manager and the block stands code of contextlib. Raised there, the second half runs
  too late, when whatever is outside of it was cleaned up already; raised in the second half, the rest of that does
  not run at all. It waits until both are left.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds between two sendings of the same signal.
_AGAIN = 0.05
# Modules whose code holds locks, and seconds in one place of it that only a wait can take.
_LOCKING = ("threading", "concurrent.futures", "queue")
_STANDING = 0.03
# One that notes what it made only after all that it calls, and one between the halves of context managers.
_MAKING, _BETWEEN = "tempfile", "contextlib"
# Seconds that whoever ends all programs of a group may need for it.
_OTHERS = 0.2
# Frames from the innermost that may belong to the taking of a lock.
_DEPTH = 4


@dataclass
class _State:
    # What came while it was held off; None while nothing is held off.
    held: list[int] | None = None
    # Where the main thread was in code with duties, and since when.
    stands: tuple[int, int, float] | None = None
    # Whether a signal came there.
    waits: bool = False
    # The end of a pipe that wakes the thread up which sends signals again.
    wake: int | None = None


# There is one main thread, and signals interrupt no other.
_state = _State()


class Interrupted(KeyboardInterrupt):
    """One of these signals came.

    A class of its own, because Python ends by SIGINT whatever its exit code if a plain KeyboardInterrupt once
    passed through exec(), which dataclasses use.
    """


def interrupt_once() -> None:
    """Make the first of these signals raise Interrupted; later ones would break off its work and do nothing."""
    for number in _ENDING:
        signal.signal(number, _interrupted)
    _send_again()


def ignore_interrupts() -> None:
    """Let none of them through any more: what follows is done to its end."""
    _state.waits = False
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def held_off() -> Iterator[None]:
    """Let an interruption wait for the end of the block, which has to be short."""
    if _state.held is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    came = _state.held = []
    try:
        yield
    finally:
        _state.held = None
        if came:
            raise Interrupted(signal.Signals(came[0]).name)


def interruption_waits() -> bool:
    """Tell whether a signal came that has not been acted on: what failed since may have failed of it, too."""
    return _state.waits


def wait_for_the_same(number: int) -> None:
    """Wait a moment for the signal that ended a program of ours, if it would end this one, too.

    A terminal sends it to all of them, and whoever gets it last must not take what it did to the others for a defect.
    """
    if signal.getsignal(number) is _interrupted:
        time.sleep(_OTHERS)


def _interrupted(number: int, frame: FrameType | None) -> None:
    if _state.held is not None:
        ignore_interrupts()
        _state.held.append(number)
        return
    _state.waits = _has_duties(frame)
    if _state.waits:
        return
    ignore_interrupts()
    raise Interrupted(signal.Signals(number).name)


def _has_duties(frame: FrameType | None) -> bool:
    """Tell whether the main thread is in code that must not be broken off, and not known to wait there."""
    if frame is None or not _is_bound(frame) or _waits_there(frame):
        return False
    now = time.monotonic()
    place = (id(frame), frame.f_lasti)
    if _state.stands is None or _state.stands[:2] != place:
        _state.stands = (*place, now)
    return now - _state.stands[2] < _STANDING


def _waits_there(frame: FrameType) -> bool:
    """Tell it for the one place where the main thread mostly is, so that nothing is lost there.

    From this variable's first value on, whatever is raised gives back what was taken.
    """
    return frame.f_code is threading.Condition.wait.__code__ and frame.f_locals.get("gotit") is False


def _is_bound(frame: FrameType) -> bool:
    modules = [_module(one) for one in _outward(frame)]
    if modules[0] == _BETWEEN or _MAKING in modules or any(name.startswith(_LOCKING) for name in modules[:_DEPTH]):
        return True
    return any(one.f_code.co_name == "__exit__" and _module(one) == _BETWEEN for one in _outward(frame))


def _outward(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _send_again() -> None:
    if _state.wake is not None:
        return
    read, _state.wake = os.pipe()
    # Python writes the number of each signal that has a handler of ours.
    os.set_blocking(_state.wake, False)
    signal.set_wakeup_fd(_state.wake, warn_on_full_buffer=False)
    threading.Thread(target=_keep_sending, args=(read,), name="signals", daemon=True).start()
    sys.unraisablehook = _swallowed


def _keep_sending(read: int) -> None:
    main = threading.main_thread().ident
    while main is not None and (came := os.read(read, 1)):
        time.sleep(_AGAIN)
        while signal.getsignal(came[0]) is _interrupted:
            signal.pthread_kill(main, came[0])
            time.sleep(_AGAIN)


def _swallowed(what: sys.UnraisableHookArgs) -> None:
    if not issubclass(what.exc_type, Interrupted) or _state.wake is None:
        sys.__unraisablehook__(what)
        return
    number = signal.Signals[str(what.exc_value)] if what.exc_value else signal.SIGTERM
    for one in _ENDING:
        signal.signal(one, _interrupted)
    os.write(_state.wake, bytes([number]))
