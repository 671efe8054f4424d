"""Trying again: how long the pauses are, when it ends, and that nothing is fetched twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bootc_live.base.errors import SourceError
from bootc_live.config.model import RetryLimits
from bootc_live.source.http.errors import retry_after
from bootc_live.source.retry import Retries, RetryPolicy, TransientError, skip_bytes

QUICK = RetryPolicy(RetryLimits(tries=4), first_delay=0.001, longest_delay=0.002)
ONE_WAY = [None]


class World:
    """A clock that only sleeping moves, and everything that was said."""

    def __init__(self, *, awake: bool = True) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.said: list[str] = []
        self._awake = awake

    def sleep(self, seconds: float) -> bool:
        self.pauses += [seconds] if seconds else []
        self.now += seconds
        return self._awake

    def retries(self, policy: RetryPolicy) -> Retries:
        return Retries(policy, "source", self.said.append, self.sleep, lambda: self.now)


def failing(times: int, wait: float | None = None) -> Iterator[TransientError]:
    return iter([TransientError(f"failure {number}", hint="-", wait=wait) for number in range(times)])


def test_delays_grow_to_a_limit_and_are_spread() -> None:
    policy = RetryPolicy(first_delay=1, longest_delay=10)
    assert [policy.delay(failures, None, lambda: 1.0) for failures in range(1, 7)] == [1, 2, 4, 8, 10, 10]
    assert policy.delay(5, None, lambda: 0.0) == 0
    assert policy.delay(3, None, lambda: 0.5) == 2
    drawn = {policy.delay(4, None) for _ in range(50)}
    assert len(drawn) > 40
    assert 0 <= min(drawn) <= max(drawn) <= 8


def test_the_wish_of_a_server_is_granted_within_limits() -> None:
    policy = RetryPolicy(first_delay=1, longest_delay=10)
    assert policy.delay(1, 7, lambda: 0.0) == 7
    assert policy.delay(1, 3600, lambda: 0.0) == 10
    assert policy.delay(4, 2, lambda: 1.0) == 8


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("7", 7), (" 0 ", 0), ("Thu, 01 Jan 1970 00:01:40 GMT", 40), ("Thu, 01 Jan 1970 00:00:10 GMT", 0)],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, 60.0) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *["", "soon", "²", "٣", "-1", "+1", "1_0", "1.5", "9" * 5000, "1e9", "inf", "nan", "\x00"],
        *[f"Mon, 01 Jan {year} 00:00:00 {zone}" for year in ("9" * 20, "²") for zone in ("GMT", "+" + "9" * 11)],
    ],
)
def test_retry_after_that_is_nonsense(value: str) -> None:
    assert retry_after(value, 0.0) is None


@pytest.mark.parametrize(
    "value",
    [
        f"Mon, 01 Jan {year} {hour} {zone}"
        for year in ("0000", "0001", "9999", "24")
        for hour in ("00:00:00", "99:99:99", "²")
        for zone in ("-0000", "+9999", "-9999", "XYZ", "")
    ],
)
def test_retry_after_at_the_ends_of_time(value: str) -> None:
    wait = retry_after(value, 0.0)
    assert wait is None or 0 <= wait <= 10**9


@pytest.mark.parametrize(
    "error", [ValueError("digits"), MemoryError(), RecursionError("deep"), OSError(5, "I/O error")]
)
def test_an_error_that_nobody_thought_of_ends_one_way(error: Exception) -> None:
    def attempt(way: str) -> str:
        if way == "bad":
            raise error
        return way

    assert World().retries(QUICK).run(["bad", "good"], attempt) == "good"
    with pytest.raises(SourceError, match=type(error).__name__):
        World().retries(QUICK).run(["bad"], attempt)


def test_insists_until_it_works() -> None:
    world, errors = World(), failing(3)

    def attempt(_way: None) -> str:
        for error in errors:
            raise error
        return "done"

    assert world.retries(RetryPolicy(RetryLimits(tries=4))).run(ONE_WAY, attempt) == "done"
    assert len(world.pauses) == len(world.said) == 3
    assert world.said[0].startswith("failure 0; trying again in ")


def test_gives_up_after_so_many_tries() -> None:
    world, errors = World(), failing(9)

    def attempt(_way: None) -> None:
        raise next(errors)

    with pytest.raises(TransientError, match="failure 3"):
        world.retries(RetryPolicy(RetryLimits(tries=4))).run(ONE_WAY, attempt)


def test_gives_up_when_all_the_time_is_gone() -> None:
    world, errors = World(), failing(1000, wait=10)

    def attempt(_way: None) -> None:
        raise next(errors)

    with pytest.raises(SourceError, match="'source' was not fetched within 95 s; the last failure: failure"):
        world.retries(RetryPolicy(RetryLimits(tries=1000, total=95))).run(ONE_WAY, attempt)
    # Full jitter leaves the pauses between 10 and 30 seconds.
    assert 95 < world.now <= 125


def test_an_interrupted_pause_is_the_end() -> None:
    world, errors = World(awake=False), failing(9)

    def attempt(_way: None) -> None:
        raise next(errors)

    with pytest.raises(TransientError, match="failure 0"):
        world.retries(RetryPolicy()).run(ONE_WAY, attempt)


def test_other_errors_are_final() -> None:
    world = World()

    @contextmanager
    def open_from(_way: None, start: int) -> Iterator[Iterator[bytes]]:
        if start == 0:
            raise SourceError("no", hint="-")
        yield iter(())

    with pytest.raises(SourceError, match="no"):
        list(world.retries(RetryPolicy()).stream(ONE_WAY, open_from, 10))
    assert world.pauses == []


def test_a_whole_blob_needs_no_orderly_end() -> None:
    world, opened = World(), []

    @contextmanager
    def open_from(_way: None, start: int) -> Iterator[Iterator[bytes]]:
        opened.append(start)
        yield rough_end(b"0123456789"[start:])

    def rough_end(rest: bytes) -> Iterator[bytes]:
        yield rest
        raise TransientError("no end", hint="-")

    assert b"".join(world.retries(RetryPolicy()).stream(ONE_WAY, open_from, 10)) == b"0123456789"
    assert opened == [0]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 9, 10, 11])
def test_skipped(count: int) -> None:
    assert b"".join(skip_bytes(iter([b"0123", b"", b"456", b"789"]), count)) == b"0123456789"[count:]
