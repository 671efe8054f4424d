"""Bodies of answers: what counts as standing still, by a clock that only reading moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from bootc_live.source.http.body import SLOWEST, read_body
from bootc_live.source.retry import TransientError

STALL = 10.0
URL = "http://somebody:secret@a.example/root.oci?key=secret"


@dataclass
class Slow:
    """Stands for an answer: gives (seconds, bytes or error) one after the other, then its end."""

    steps: Sequence[tuple[float, bytes | Exception]]
    headers: dict[str, str] = field(default_factory=dict)
    url: str = URL
    now: float = 0.0

    def __post_init__(self) -> None:
        self._left = list(self.steps)

    @property
    def raw(self) -> Slow:
        """The stream below."""
        return self

    def read1(self, amount: int, *, decode_content: bool) -> bytes:
        """The next piece, after its time."""
        assert not decode_content
        if not self._left:
            return b""
        seconds, given = self._left.pop(0)
        self.now += seconds
        if isinstance(given, Exception):
            raise given
        assert len(given) <= amount
        return given

    def read(self, expected: int | None = None, pause: float = 0.0) -> tuple[list[bytes], list[int]]:
        """All pieces, and what was counted; the reader takes `pause` seconds for each."""
        counted: list[int] = []
        pieces = []
        answer: Any = self
        for piece in read_body(answer, "source", STALL, counted.append, expected, lambda: self.now):
            pieces.append(piece)
            self.now += pause
        return pieces, counted


def trickle(size: int, seconds: float, times: int) -> list[tuple[float, bytes | Exception]]:
    return [(seconds, bytes(size))] * times


def test_pieces_are_passed_on_and_counted() -> None:
    pieces, counted = Slow([(0.1, b"one"), (0.1, b"twenty")]).read()
    assert pieces == [b"one", b"twenty"]
    assert counted == [3, 6]


@pytest.mark.parametrize(
    "steps",
    [
        trickle(1, 1.0, 11),
        trickle(SLOWEST - 1, 1.0, 11),
        [*trickle(2**20, 1.0, 50), *trickle(1, 1.0, 40)],
        [(STALL + 1, b"x"), (0, b"y")],
    ],
    ids=["trickle", "just too slow", "slows down", "late"],
)
def test_too_slow(steps: list[tuple[float, bytes | Exception]]) -> None:
    with pytest.raises(TransientError, match=r"broke off: only \d+ bytes arrived in \d+ s") as caught:
        Slow(steps).read()
    assert "secret" not in caught.value.message
    assert "'source'" in caught.value.message


@pytest.mark.parametrize(
    "steps",
    [
        trickle(SLOWEST, 1.0, 100),
        trickle(1, 0.9, 11),
        [(9.0, bytes(20 * SLOWEST))] * 20,
        [*trickle(1, 0.9, 10), (1.5, bytes(2**20))] * 5,
    ],
    ids=["just fast enough", "over before", "in gusts", "catches up"],
)
def test_slow_but_not_too_slow(steps: list[tuple[float, bytes | Exception]]) -> None:
    assert len(Slow(steps).read()[0]) == len(steps)


def test_the_time_of_the_reader_does_not_count() -> None:
    assert len(Slow(trickle(10, 0.01, 100)).read(pause=60.0)[0]) == 100


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), TimeoutError("timed out")])
def test_broken_connections(error: Exception) -> None:
    answer = Slow([(0.1, b"one"), (0.1, error)])
    with pytest.raises(TransientError, match="broke off") as caught:
        answer.read()
    assert "secret" not in caught.value.message


def test_an_end_that_only_the_connection_tells() -> None:
    for headers, broken in (({}, True), ({"Content-Length": "3"}, False), ({"Transfer-Encoding": "chunked"}, False)):
        answer = Slow([(0.1, b"one")], headers)
        if broken:
            with pytest.raises(TransientError, match="it ended after 3 of 5 bytes"):
                answer.read(5)
        else:
            # Their own end has been checked below.
            assert answer.read(5)[0] == [b"one"]
    assert Slow([(0.1, b"one")]).read(3)[0] == [b"one"]
    assert Slow([(0.1, b"one")]).read()[0] == [b"one"]
