"""Transfers that survive what networks do: try again, and continue at the byte where it broke off."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

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


DEFAULT_POLICY = RetryPolicy()
Opener = Callable[[int], AbstractContextManager[Iterator[bytes]]]
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Persistence:
    """A policy, and what it needs of the world.

    ``tell`` hears of every new try; ``sleep`` gives false where it was cut short;
    ``clock`` counts seconds.
    """

    policy: RetryPolicy
    tell: Callable[[str], None]
    sleep: Callable[[float], bool]
    clock: Callable[[], float] = time.monotonic

    def insist(self, attempt: Callable[[], _Result]) -> _Result:
        """Give the result of the first attempt that does not fail for a passing reason; raises the last SourceError."""
        failures, began = 0, self.clock()
        while True:
            try:
                return attempt()
            except TransientError as error:
                failures += 1
                if not self._goes_on(error, failures, began, ""):
                    raise

    def resumed(self, open_from: Opener, size: int) -> Generator[bytes, None, None]:
        """Give the chunks of a blob across as many transfers as it takes; raises the last SourceError.

        ``open_from`` opens the blob, of ``size`` bytes, at a byte. Where a transfer ends as its own
        length says, the blob ends, whatever length it should have had.
        """
        position, failures, began = 0, 0, self.clock()
        while True:
            try:
                with open_from(position) as chunks:
                    for chunk in chunks:
                        position += len(chunk)
                        failures = 0
                        yield chunk
                # An orderly end that comes too early is no accident: verifying says what it is.
                return
            except TransientError as error:
                if position >= size:
                    # All came, and only the connection's end was rough: there is no byte to ask for.
                    return
                failures += 1
                if not self._goes_on(error, failures, began, f", from byte {position}"):
                    raise

    def _goes_on(self, error: TransientError, failures: int, began: float, where: str) -> bool:
        if failures >= self.policy.tries or self.clock() - began > self.policy.total:
            return False
        pause = self.policy.delay(failures, error.wait)
        self.tell(f"{error.message}; trying again in {pause:.1f} s{where}")
        return self.sleep(pause)


def skipped(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Give what follows the first ``count`` bytes."""
    for chunk in chunks:
        if count < len(chunk):
            yield chunk[count:] if count else chunk
        count = max(0, count - len(chunk))
