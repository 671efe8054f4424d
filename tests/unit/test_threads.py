"""Threads and interruptions: whichever start or join of one an interruption comes to, no thread is left."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from bootc_live.base import interrupt
from bootc_live.base.interrupt import Interrupted
from bootc_live.base.threads import Pool, working
from tests.lib.archive_members import oci_members, tar_of
from tests.lib.building import Building
from tests.lib.oci_writer import Image, Layer, write_layout
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer
from tests.lib.threads import no_thread_left

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TARS = tuple(layer(file(name, name * 70_000), file(f"of-{name}", os.urandom(3000))) for name in "abc")


class Interrupting:
    """Interrupts the main thread at one of its starts and joins of threads, between their halves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = -1
        # What a thread may wait for that lives until it is joined.
        self.joining = threading.Event()
        # Python 3.11 takes a thread whose joining was broken off for ended.
        self._lost: threading.Thread | None = None
        start, join = threading.Thread.start, threading.Thread.join

        def start_interrupted(thread: threading.Thread) -> None:
            start(thread)
            self._count()

        def join_interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
            if thread is self._lost:
                return
            self._lost = thread
            self._count()
            self._lost = None
            self.joining.set()
            join(thread, timeout)

        monkeypatch.setattr(threading.Thread, "start", start_interrupted)
        monkeypatch.setattr(threading.Thread, "join", join_interrupted)
        # As if the main thread had waited there for long already: then it is not let be.
        monkeypatch.setattr(interrupt, "_STANDING", 0.0)

    def at(self, number: int) -> None:
        """Let the one with this number, from 0 on, be interrupted."""
        for one in ENDING:
            signal.signal(one, _handled)
        self.number = number
        self.joining.clear()

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Raise AssertionError if the block leaves a thread behind; then let that end."""
        try:
            with no_thread_left():
                yield
        finally:
            self.joining.set()

    def _count(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self.number -= 1
            if self.number == -1:
                signal.raise_signal(signal.SIGTERM)


def _handled(number: int, frame: FrameType | None) -> None:
    """Handle a signal as the program does.

    It is not the program's own handler: the thread that sends signals again, which another test may have started, knows
    only that one, and would send what it heard of a test to the next one.
    """
    interrupt._interrupted(number, frame)


@pytest.fixture
def interrupting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Interrupting]:
    """Interruptions as the program has them, without the thread that sends them again."""
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        yield Interrupting(monkeypatch)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", [0, 1], ids=["start", "join"])
def test_a_pool_loses_no_thread(number: int, interrupting: Interrupting) -> None:
    interrupting.at(number)
    with interrupting.joined(), pytest.raises(Interrupted), Pool(max_workers=1) as pool:
        pool.submit(interrupting.joining.wait)


@pytest.mark.parametrize("number", [0, 1], ids=["start", "join"])
def test_a_single_thread_is_not_lost(number: int, interrupting: Interrupting) -> None:
    stopped: list[str] = []
    interrupting.at(number)
    with (
        interrupting.joined(),
        pytest.raises(Interrupted),
        working(interrupting.joining.wait, lambda: stopped.append("it"), "it"),
    ):
        pass
    assert stopped == ["it"]


def test_the_block_can_wait_for_the_work() -> None:
    done, stop = [], threading.Event()
    with working(lambda: done.append("work"), stop.set, "it") as wait:
        wait()
        assert (done, stop.is_set()) == (["work"], False)
    assert stop.is_set()


@pytest.mark.parametrize("kind", ["layout", "stream"])
def test_making_an_image_leaves_no_thread(kind: str, tmp_path: Path, interrupting: Interrupting) -> None:
    """Nor a file: the data file outlives the fetching, and goes with its directory."""
    image = Image([Layer(tar) for tar in TARS], architecture=HERE)
    source = write_layout(tmp_path / "layout", image)
    if kind == "stream":
        source = tmp_path / "stream"
        source.write_bytes(tar_of(oci_members(image)))
    for number in itertools.count():
        place = tmp_path / f"{number}"
        place.mkdir()
        interrupting.at(number)
        try:
            with no_thread_left():
                Building(place).make(source)
            break
        except Interrupted:
            assert set(os.listdir(place)) <= {"layers"}
    # Each layer has one, at the least.
    assert number >= 2 * len(TARS)
