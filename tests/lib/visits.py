"""Visits the places of a program, one a run, and interrupts it there, as a signal that comes just then does.

By chance a signal finds few of them, and the same one once in thousands of runs.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

NUMBER: Final = signal.SIGTERM


class Visits:
    """Goes along with the main thread through files whose path `files` finds, and interrupts it at the place `stop`.

    `places` are those it came to so far, as lines: `boot.py:93`. Those of contextlib that such a file called have the
    line that did: there it stands between the halves of somebody's context manager.
    """

    def __init__(self, files: str, stop: str | None = None) -> None:
        self.places: dict[str, None] = {}
        self._files = re.compile(files)
        self._stop, self._sent = stop, False

    @contextmanager
    def made(self) -> Iterator[None]:
        """Visits what the block runs."""
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(None)

    def _called(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        called_by = frame.f_back if _is_between(frame) else frame
        return self._moved if called_by and self._files.search(called_by.f_code.co_filename) else None

    def _moved(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if self._stop is None:
            self.places[_place(frame, event)] = None
        elif self._sent or _place(frame, event) == self._stop:
            self._sent = True
            self._interrupt(frame)
        return self._moved

    def _interrupt(self, frame: FrameType) -> None:
        handler = signal.getsignal(NUMBER)
        if callable(handler):
            # In this frame, not in ours. Where it waits for another one, it comes again at each.
            handler(NUMBER, frame)
        else:
            sys.settrace(None)
            signal.raise_signal(NUMBER)


def _place(frame: FrameType, event: str) -> str:
    between = f"<{_line(frame.f_back)}" if _is_between(frame) else ""
    return f"{_line(frame)}{between}{'' if event == 'line' else f' {event}'}"


def _is_between(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") == "contextlib"


def _line(frame: FrameType | None) -> str:
    return "" if frame is None else f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"
