"""Questions side by side: all of them, some of them, none of them in time."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from bootc_live.base.errors import SourceError
from bootc_live.image.size import probe as module
from bootc_live.image.size.probe import run_probes

# Seconds that no test takes.
LONG = 600.0


def test_answers() -> None:
    found = run_probes(range(100), lambda number: None if number % 10 else number * 2, patience=LONG)
    assert sorted(found) == [(number, number * 2) for number in range(0, 100, 10)]


def test_nothing_to_ask() -> None:
    assert run_probes([], lambda thing: thing) == []


def test_several_at_once() -> None:
    meeting = threading.Barrier(8)

    def look(_number: int) -> int:
        return meeting.wait(LONG)

    assert len(run_probes(range(8), look, patience=LONG)) == 8


def test_one_failure_ends_the_asking() -> None:
    asked: list[int] = []
    failing: list[threading.Thread] = []
    fails = threading.Event()

    def look(number: int) -> int:
        asked.append(number)
        if number == 3:
            failing.append(threading.current_thread())
            fails.set()
            raise SourceError("no ranges", hint="none")
        # So that nobody asks again before the failure is known.
        fails.wait(LONG)
        failing[0].join(LONG)
        return number

    found = run_probes(range(1000), look, patience=LONG)
    assert len(asked) <= 8
    assert (3, 3) not in found


def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, released = threading.Event(), threading.Event()
    hanging: list[threading.Thread] = []
    times = iter([0.0])

    def look(number: int) -> int:
        if number == 2:
            hanging.append(threading.current_thread())
            hangs.set()
            released.wait(LONG)
        return number

    def clock() -> float:
        """Tell that it is over at the second question for the time, once all have answered that do not hang."""
        for now in times:
            return now
        hangs.wait(LONG)
        for thread in threading.enumerate():
            if thread.name == "look" and thread not in (*before, *hanging):
                thread.join(LONG)
        return LONG

    before = threading.enumerate()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    found = run_probes(range(5), look, patience=LONG / 2)
    assert sorted(found) == [(number, number) for number in (0, 1, 3, 4)]
    assert not released.is_set()
    released.set()


@pytest.mark.parametrize("number", [1, 8])
def test_all_hang(number: int) -> None:
    """Whoever hangs has an answer in the end."""
    released = threading.Event()
    assert run_probes(range(number), lambda _: not released.wait(LONG), patience=0.1) == []
    released.set()
