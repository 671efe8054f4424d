"""Questions side by side: all of them, some of them, none of them in time."""

from __future__ import annotations

import threading
import time

import pytest

from bootc_live.base.errors import SourceError
from bootc_live.image.look import looked_at


def test_answers() -> None:
    found = looked_at(range(100), lambda number: None if number % 10 else number * 2)
    assert sorted(found) == [(number, number * 2) for number in range(0, 100, 10)]


def test_nothing_to_ask() -> None:
    assert looked_at([], lambda thing: thing) == []


def test_several_at_once() -> None:
    meeting = threading.Barrier(8)

    def look(_number: int) -> int:
        return meeting.wait(5)

    assert len(looked_at(range(8), look)) == 8


def test_one_failure_ends_the_asking() -> None:
    asked = []

    def look(number: int) -> int:
        asked.append(number)
        if number == 3:
            raise SourceError("no ranges", hint="none")
        time.sleep(0.01)
        return number

    found = looked_at(range(1000), look)
    assert len(asked) <= 16
    assert (3, 3) not in found


def test_patience_has_an_end() -> None:
    released = threading.Event()

    def look(number: int) -> int:
        if number == 2:
            released.wait(30)
        return number

    began = time.monotonic()
    found = looked_at(range(5), look, patience=2.0)
    assert time.monotonic() - began < 25
    assert sorted(found) == [(number, number) for number in (0, 1, 3, 4)]
    released.set()


@pytest.mark.parametrize("number", [1, 8])
def test_all_hang(number: int) -> None:
    released = threading.Event()
    began = time.monotonic()
    assert looked_at(range(number), lambda _: released.wait(30), patience=0.1) == []
    assert time.monotonic() - began < 25
    released.set()
