"""Transfers that survive what networks do: try again, elsewhere too, and continue at the byte where it broke off."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from bootc_live.base.errors import SourceError, unexpected_as_source_error
from bootc_live.config.model import RetryLimits

# Fewer bytes than this between two failures are no progress: a server that gives a little each time is no better
# than one that gives nothing.
PROGRESS = 64 * 1024


class TransientError(SourceError):
    """A failure that may be gone at the next try; ``wait`` is how many seconds the server asked for, or None."""

    def __init__(self, message: str, *, hint: str, wait: float | None = None) -> None:
        """Keep the server's wish beside message and hint."""
        super().__init__(message, hint=hint)
        self.wait = wait


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long to try; times in seconds.

    ``limits.tries`` counts failures without progress in between, ``limits.total``
    is the end of it all, whatever the progress.
    """

    limits: RetryLimits = field(default_factory=RetryLimits)
    first_delay: float = 0.5
    longest_delay: float = 30.0

    def delay(self, failures: int, wait: float | None, spread: Callable[[], float] = random.random) -> float:
        """Return the pause after so many failures in a row: exponential, with full jitter.

        A thousand nodes that lost the same server do not come back together. What
        the server asked for is granted, up to ``longest_delay``.
        """
        longest = min(self.longest_delay, self.first_delay * 2.0 ** (failures - 1))
        pause = longest * spread()
        return pause if wait is None else min(self.longest_delay, max(pause, wait))


_Way = TypeVar("_Way")
_Result = TypeVar("_Result")


@dataclass
class Persistence:
    """A policy, and what it needs of the world; its total time runs from when it was made.

    ``what`` is fetched, for messages; ``tell`` hears of every new try; ``sleep`` gives false where it was cut short, as
    all are once everything is ended for good; ``clock`` counts seconds.
    """

    policy: RetryPolicy
    what: str
    tell: Callable[[str], None]
    sleep: Callable[[float], bool]
    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        """Start the clock."""
        self._began = self.clock()

    def insist(self, ways: Sequence[_Way], attempt: Callable[[_Way], _Result]) -> _Result:
        """Return the result of the first attempt that does not fail, over all ways in turn; raise the last SourceError.

        A way that fails for good is not tried again; there is another round as long as one of them may recover.
        """
        effort = _Effort(self, ways)
        while True:
            try:
                with unexpected_as_source_error(f"an answer about {self.what!r}"):
                    return attempt(effort.way)
            except SourceError as error:
                effort.failed(error, "")

    def resumed(
        self,
        ways: Sequence[_Way],
        open_from: Callable[[_Way, int], AbstractContextManager[Iterator[bytes]]],
        size: int | None,
    ) -> Generator[bytes, None, None]:
        """Return the chunks of a blob across as many transfers as it takes; raise the last SourceError.

        ``open_from`` opens the blob, of ``size`` bytes where that is known, at a byte of one of the ``ways``. Where a
        transfer ends as its own length says, the blob ends, whatever length it should have had.
        """
        position, effort = 0, _Effort(self, ways)
        while True:
            try:
                with (
                    unexpected_as_source_error(f"a transfer of {self.what!r}"),
                    open_from(effort.way, position) as chunks,
                ):
                    for chunk in chunks:
                        position += len(chunk)
                        effort.progressed(len(chunk))
                        yield chunk
                        self.check_time()
                # An orderly end that comes too early is no accident: verifying says what it is.
                return
            except SourceError as error:
                if isinstance(error, TransientError) and size is not None and position >= size:
                    # All came, and only the connection's end was rough: there is no byte to ask for.
                    return
                effort.failed(error, f", from byte {position}" if position else "")

    def spent(self) -> float:
        """Return the seconds since it was made."""
        return self.clock() - self._began

    def check_time(self) -> None:
        """Raise SourceError where the total time is over."""
        total = self.policy.limits.total
        if self.spent() >= total:
            raise _OutOfTimeError(
                f"{self.what!r} was not fetched within {total:g} s",
                hint="check the network and the server, or allow more time with bootc.live.retry.total=",
            )


class _OutOfTimeError(SourceError):
    """The end of all tries."""


class _Effort(Generic[_Way]):
    """What has been tried of one transfer."""

    def __init__(self, persistence: Persistence, ways: Sequence[_Way]) -> None:
        """Begin with the first way."""
        self._persistence = persistence
        self._left = list(ways)
        self._turn = 0
        self._rounds = 0
        self._fresh = 0
        self._wait: float | None = None

    @property
    def way(self) -> _Way:
        """The way whose turn it is."""
        return self._left[self._turn]

    def progressed(self, count: int) -> None:
        """Count bytes that came."""
        self._fresh += count
        if self._fresh >= PROGRESS:
            self._rounds = 0

    def failed(self, error: SourceError, where: str) -> None:
        """Turn to the next way, after a pause where all have had their turn; raise ``error`` where that is the end."""
        self._fresh = 0
        self._check_time(error)
        if isinstance(error, TransientError):
            self._turn += 1
            self._wait = error.wait if self._wait is None else max(self._wait, error.wait or 0.0)
        else:
            del self._left[self._turn]
        if not self._left:
            raise error
        if not self._persistence.sleep(0):
            raise error
        if self._turn < len(self._left):
            self._persistence.tell(f"{error.message}; going on with {self.way}{where}")
            return
        self._turn = 0
        self._rounds += 1
        if self._rounds >= self._persistence.policy.limits.tries:
            raise error
        pause = self._persistence.policy.delay(self._rounds, self._wait)
        self._wait = None
        self._persistence.tell(f"{error.message}; trying again in {pause:.1f} s{where}")
        if not self._persistence.sleep(pause):
            raise error

    def _check_time(self, error: SourceError) -> None:
        if isinstance(error, _OutOfTimeError):
            raise error
        try:
            self._persistence.check_time()
        except _OutOfTimeError as end:
            end.message += f"; the last failure: {error.message}"
            raise end from error


def skipped(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Return what follows the first ``count`` bytes."""
    for chunk in chunks:
        if count < len(chunk):
            yield chunk[count:] if count else chunk
        count = max(0, count - len(chunk))
