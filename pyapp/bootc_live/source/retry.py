"""Transfers that survive what networks do: try again, and continue at the byte where it broke off."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from bootc_live.base.errors import SourceError


class TransientError(SourceError):
    """A failure that may be gone at the next try; ``wait`` is how many seconds the server asked for, or None."""

    def __init__(self, message: str, *, hint: str, wait: float | None = None) -> None:
        """Keep the server's wish beside message and hint."""
        super().__init__(message, hint=hint)
        self.wait = wait


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long to try; times in seconds.

    ``tries`` counts failures without a byte of progress in between, ``total``
    is the end of it all, whatever the progress.
    """

    tries: int = 6
    first_delay: float = 0.5
    longest_delay: float = 30.0
    total: float = 3600.0

    def delay(self, failures: int, wait: float | None, spread: Callable[[], float] = random.random) -> float:
        """Give the pause after so many failures in a row: exponential, with full jitter.

        A thousand nodes that lost the same server do not come back together. What
        the server asked for is granted, up to ``longest_delay``.
        """
        longest = min(self.longest_delay, self.first_delay * 2.0 ** (failures - 1))
        pause = longest * spread()
        return pause if wait is None else min(self.longest_delay, max(pause, wait))


@dataclass(frozen=True)
class Tools:
    """What trying again needs of the world: a clock, a sleep that gives false when it was cut short, and a voice."""

    say: Callable[[str], None]
    sleep: Callable[[float], bool]
    clock: Callable[[], float] = time.monotonic


def resumed(
    open_from: Callable[[int], AbstractContextManager[Iterator[bytes]]], size: int, policy: RetryPolicy, tools: Tools
) -> Iterator[bytes]:
    """Give the chunks of a blob of ``size`` bytes, whole, across as many transfers as it takes.

    ``open_from`` opens the blob at a byte. More than ``size`` bytes are passed on
    once, for whoever verifies them to refuse. Raises the last SourceError.
    """
    position, failures = 0, 0
    began = tools.clock()
    while True:
        try:
            with open_from(position) as chunks:
                for chunk in chunks:
                    position += len(chunk)
                    failures = 0
                    yield chunk
            if position >= size:
                return
            raise TransientError(f"only {position} of {size} bytes came", hint="check the server")
        except TransientError as error:
            failures += 1
            if failures >= policy.tries or tools.clock() - began > policy.total:
                raise
            pause = policy.delay(failures, error.wait)
            tools.say(f"{error.message}; trying again in {pause:.1f} s from byte {position}")
            if not tools.sleep(pause):
                raise
