"""Trying again: how long the pauses are, when it ends, and that nothing is fetched twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from bootc_live.base.errors import ImageError, SourceError
from bootc_live.config.model import RetryLimits
from bootc_live.config.source_spec import RegistryImage
from bootc_live.image.verify import verified
from bootc_live.source.access import Access
from bootc_live.source.http.errors import retry_after
from bootc_live.source.registry.source import RegistrySource, open_registry
from bootc_live.source.retry import Retries, RetryPolicy, TransientError, skip_bytes
from tests.lib.faulty_registry import Fault, FaultyRegistry, faulty_registry

MIB = 1024 * 1024
BLOB = bytes(range(256)) * 4 * 1024 * 8
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


def opened(registry: FaultyRegistry, said: list[str]) -> AbstractContextManager[RegistrySource]:
    access = Access(said.append, unsecure=True, policy=QUICK, root="/nonexistent")
    return open_registry(RegistryImage(registry.reference, "source"), access)


@contextmanager
def pull(registry: FaultyRegistry, content: bytes, said: list[str]) -> Iterator[Iterator[bytes]]:
    descriptor = registry.add(content)
    with (
        opened(registry, said) as source,
        source.open_blob(descriptor) as chunks,
    ):
        yield verified(chunks, descriptor)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_continues_where_it_broke(ranges: bool) -> None:
    said: list[str] = []
    with faulty_registry(ranges=ranges) as registry:
        registry.faults.extend(
            [Fault(after=3 * MIB), Fault(status=503, headers={"Retry-After": "0"}), Fault(after=MIB)]
        )
        with pull(registry, BLOB, said) as chunks:
            assert b"".join(chunks) == BLOB
        assert registry.asked[0] == ""
        assert all(asked.startswith("bytes=") for asked in registry.asked[1:])
        assert len(said) == 3
        assert "503" in said[1]
        if ranges:
            # At most what was on its way is lost with a connection.
            assert registry.sent <= len(BLOB) + 2 * MIB


def test_a_blob_that_is_shorter_than_it_should_be_is_final() -> None:
    with faulty_registry() as registry:
        descriptor = registry.add(BLOB)
        registry.blobs[descriptor.digest] = BLOB[:1000]
        with (
            opened(registry, []) as source,
            source.open_blob(descriptor) as chunks,
            pytest.raises(ImageError, match="has 1000 bytes, its manifest gives"),
        ):
            b"".join(verified(chunks, descriptor))
        assert registry.asked == [""]


def test_a_connection_that_ends_before_any_byte() -> None:
    with faulty_registry() as registry:
        registry.faults.append(Fault(after=0))
        with pull(registry, BLOB, []) as chunks:
            assert b"".join(chunks) == BLOB


def test_every_byte_offset_of_a_small_blob() -> None:
    content = bytes(range(16))
    with faulty_registry() as registry:
        for offset in range(len(content)):
            registry.faults.append(Fault(after=offset))
            with pull(registry, content, []) as chunks:
                assert b"".join(chunks) == content


def test_a_server_that_contradicts_itself_about_ranges_is_asked_for_the_whole() -> None:
    with faulty_registry(lie_about_range=True) as registry:
        registry.faults.append(Fault(after=MIB))
        with pull(registry, BLOB, []) as chunks:
            assert b"".join(chunks) == BLOB
        assert registry.asked[0] == registry.asked[-1] == ""


@pytest.mark.parametrize("status", [400, 416, 500, 501, 502])
def test_ranges_that_are_refused(status: int) -> None:
    """An open range, a closed one, the whole; and the closed one is enough where that is given."""
    for refused in (1, 2):
        with faulty_registry() as registry:
            registry.faults.append(Fault(after=MIB))
            registry.faults.extend([Fault(status=status)] * refused)
            with pull(registry, BLOB, []) as chunks:
                assert b"".join(chunks) == BLOB
            first, open_range, closed_range, *whole = registry.asked
            assert first == ""
            assert open_range.startswith("bytes=")
            assert open_range.endswith("-")
            assert closed_range == f"{open_range}{len(BLOB) - 1}"
            assert whole == [""] * (refused - 1)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_not_asked_for_more(status: int) -> None:
    with faulty_registry() as registry:
        registry.faults.append(Fault(after=MIB))
        registry.faults.extend([Fault(status=status)] * 2)
        with pull(registry, BLOB, []) as chunks:
            assert b"".join(chunks) == BLOB
        assert len(set(registry.asked)) == 2


def test_a_dead_server_ends_it() -> None:
    said: list[str] = []
    with faulty_registry() as registry:
        registry.faults.extend([Fault(status=500)] * 10)
        with pull(registry, BLOB, said) as chunks, pytest.raises(SourceError, match="answered 500"):
            b"".join(chunks)
        assert len(registry.asked) == QUICK.limits.tries


def test_what_is_missing_is_not_asked_for_again() -> None:
    with faulty_registry() as registry:
        registry.faults.append(Fault(status=404))
        with pull(registry, BLOB, []) as chunks, pytest.raises(SourceError, match="answered 404"):
            b"".join(chunks)
        assert len(registry.asked) == 1


def test_a_token_that_runs_out_is_renewed() -> None:
    with faulty_registry() as registry:
        one, other = registry.add(BLOB), registry.add(b"other")
        with opened(registry, []) as source:
            registry.faults.append(registry.login)
            with source.open_blob(one) as chunks:
                assert b"".join(chunks) == BLOB
            # The old token is shown first; then a new one helps.
            registry.faults.append(registry.login)
            with source.open_blob(other) as chunks:
                assert b"".join(chunks) == b"other"
        assert registry.tokens == 2


def test_a_refused_token_is_not_asked_for_again() -> None:
    with faulty_registry() as registry:
        registry.faults.extend([registry.login] * 5)
        with pull(registry, BLOB, []) as chunks, pytest.raises(SourceError, match="answered 401"):
            b"".join(chunks)
        assert registry.tokens == 1


def test_wrong_bytes_are_final() -> None:
    with faulty_registry() as registry:
        descriptor = registry.add(BLOB)
        registry.blobs[descriptor.digest] = BLOB[:-1] + b"x"
        with (
            opened(registry, []) as source,
            source.open_blob(descriptor) as chunks,
            pytest.raises(ImageError, match="it must be"),
        ):
            b"".join(verified(chunks, descriptor))
        assert len(registry.asked) == 1
