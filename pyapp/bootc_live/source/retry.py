"""Retry transfers, also on other servers, and continue them at the byte where they broke off."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from bootc_live.base.advice import advise
from bootc_live.base.errors import SourceError, unexpected_as_source_error
from bootc_live.config.model import RetryLimits

# Fewer bytes between two failures are no progress, so that a server cannot cause endless retries with a few bytes.
PROGRESS = 64 * 1024


class TransientError(SourceError):
    """A failure that may not occur at the next try."""

    def __init__(self, message: str, *, hint: str, wait: float | None = None) -> None:
        """Keep the seconds that the server asks to wait, or None."""
        super().__init__(message, hint=hint)
        self.wait = wait


@dataclass(frozen=True)
class RetryPolicy:
    """The limits of retries, and the delays in seconds.

    ``limits.tries`` counts failures without progress in between; ``limits.total`` applies regardless of progress.
    """

    limits: RetryLimits = field(default_factory=RetryLimits)
    first_delay: float = 0.5
    longest_delay: float = 30.0

    def delay(self, failures: int, wait: float | None, spread: Callable[[], float] = random.random) -> float:
        """Return the delay after consecutive failures: exponential, with full jitter.

        Jitter keeps many nodes from returning to a server at the same time. A server can ask for up to
        ``longest_delay``.
        """
        longest = min(self.longest_delay, self.first_delay * 2.0 ** (failures - 1))
        pause = longest * spread()
        return pause if wait is None else min(self.longest_delay, max(pause, wait))


_Server = TypeVar("_Server")
_Result = TypeVar("_Result")


@dataclass
class Retries:
    """The retries for one source; its total time starts when this object is created.

    ``source_text`` is the source, for messages. ``tell`` reports each retry. ``sleep`` returns False if the program
    ends all transfers. ``clock`` returns seconds.
    """

    policy: RetryPolicy
    source_text: str
    tell: Callable[[str], None]
    sleep: Callable[[float], bool]
    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        """Start the clock."""
        self._began = self.clock()

    def run(self, servers: Sequence[_Server], attempt: Callable[[_Server], _Result]) -> _Result:
        """Return the first result of ``attempt`` without an error, on one server after the other.

        A server with a permanent failure is not tried again. Start new rounds while a server may recover, then raise
        the last SourceError.
        """
        attempts = _Attempts(self, servers)
        while True:
            try:
                with unexpected_as_source_error(f"a response for {self.source_text!r}"):
                    return attempt(attempts.server)
            except SourceError as error:
                attempts.failed(error, "")

    def stream(
        self,
        servers: Sequence[_Server],
        open_from: Callable[[_Server, int], AbstractContextManager[Iterator[bytes]]],
        size: int | None,
    ) -> Generator[bytes, None, None]:
        """Yield the chunks of a file from as many transfers as necessary; raise the last SourceError.

        ``open_from`` opens the file on a server, from a byte on. ``size`` is that of the file, or None. A transfer
        that ends without an error ends the file, even before ``size``.
        """
        position, attempts = 0, _Attempts(self, servers)
        while True:
            try:
                with (
                    unexpected_as_source_error(f"a transfer of {self.source_text!r}"),
                    open_from(attempts.server, position) as chunks,
                ):
                    for chunk in chunks:
                        position += len(chunk)
                        attempts.progressed(len(chunk))
                        yield chunk
                        self.check_time()
                # The verification reports a file that is too short.
                return
            except SourceError as error:
                if isinstance(error, TransientError) and size is not None and position >= size:
                    # All bytes arrived before the connection broke.
                    return
                attempts.failed(error, f", from byte {position}" if position else "")

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return self.clock() - self._began

    def check_time(self) -> None:
        """Raise SourceError after the total time."""
        total = self.policy.limits.total
        if self.elapsed() >= total:
            raise _OutOfTimeError(
                f"{self.source_text!r} was not fetched within {total:g} s",
                hint="check the network and the server"
                + advise(", or allow more time with bootc.live.retry.total=", ", then try again"),
            )


class _OutOfTimeError(SourceError):
    """The total time is over."""


class _Attempts(Generic[_Server]):
    """The state of one operation: the servers left, the one to try now, and the failures so far."""

    def __init__(self, retries: Retries, servers: Sequence[_Server]) -> None:
        self._retries = retries
        self._left = list(servers)
        self._turn = 0
        self._rounds = 0
        self._recent = 0
        self._wait: float | None = None

    @property
    def server(self) -> _Server:
        return self._left[self._turn]

    def progressed(self, count: int) -> None:
        self._recent += count
        if self._recent >= PROGRESS:
            self._rounds = 0

    def failed(self, error: SourceError, position: str) -> None:
        """Select the next server, after a delay at the end of a round; raise ``error`` if no try is left."""
        self._recent = 0
        self._check_time(error)
        if isinstance(error, TransientError):
            self._turn += 1
            self._wait = error.wait if self._wait is None else max(self._wait, error.wait or 0.0)
        else:
            del self._left[self._turn]
        if not self._left or not self._retries.sleep(0):
            raise error
        if self._turn < len(self._left):
            self._retries.tell(f"{error.message}; continuing with {self.server}{position}")
            return
        self._turn = 0
        self._rounds += 1
        if self._rounds >= self._retries.policy.limits.tries:
            raise error
        pause = self._retries.policy.delay(self._rounds, self._wait)
        self._wait = None
        self._retries.tell(f"{error.message}; trying again in {max(pause, 0.1):.1f} s{position}")
        if not self._retries.sleep(pause):
            raise error

    def _check_time(self, error: SourceError) -> None:
        if isinstance(error, _OutOfTimeError):
            raise error
        try:
            self._retries.check_time()
        except _OutOfTimeError as end:
            end.message += f"; the last failure: {error.message}"
            raise end from error


def skip_bytes(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Yield the chunks without their first ``count`` bytes."""
    for chunk in chunks:
        if count < len(chunk):
            yield chunk[count:] if count else chunk
        count = max(0, count - len(chunk))
