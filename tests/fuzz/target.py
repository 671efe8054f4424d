"""What a target is, and when an input counts as a fault."""

from __future__ import annotations

import dis
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bootc_live.base.errors import BootcLiveError

MOST_SECONDS: Final = 60.0
"""Of processor time, so that it is the same on a busy machine; inputs of a few kilobytes take milliseconds."""


class FaultError(Exception):
    """The program did something with an input that it must not do."""


@dataclass(frozen=True)
class Target:
    """A part of the program that is given bytes.

    `entry` raises AssertionError where what comes out is wrong. `refusals` are the errors that say an input cannot be
    used: those of base/errors.py, and ValueError where the part promises it (then only one that it raises itself).
    `largest` is the longest input that is tried, `words` are what its language is made of.
    """

    name: str
    entry: Callable[[bytes], None]
    refusals: tuple[type[Exception], ...]
    largest: int
    words: tuple[bytes, ...] = ()

    def feed(self, data: bytes) -> None:
        """Give it one input; whatever comes out of this is a fault."""
        began = time.process_time()
        try:
            self.entry(data)
        except self.refusals as error:
            if not _is_deliberate(error):
                raise FaultError(f"{type(error).__name__} was not raised by the program itself") from error
        spent = time.process_time() - began
        if spent > MOST_SECONDS:
            raise FaultError(f"{len(data)} bytes took {spent:.0f} seconds of processor time")


def _is_deliberate(error: Exception) -> bool:
    """Tell whether a statement `raise` of the program made an error, not a library that it called."""
    if isinstance(error, BootcLiveError):
        return True
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    code = last.tb_frame.f_code
    return "/bootc_live/" in code.co_filename and code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
