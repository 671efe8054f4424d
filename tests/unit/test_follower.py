"""A tar that is read while it is written: who waits for whom, and whose memory is given back."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_live.rootfs.tree.follower import AHEAD, AbandonedError, TarFollower

MIB = 2**20
SIZE = 12 * MIB
SOON = 0.05
LONG = 600


@dataclass
class Place:
    """A data file with a neighbour in front of the layer and one behind it."""

    fd: int

    def tar(self, *, keep: bool = False) -> TarFollower:
        return TarFollower(self.fd, SIZE, keep=keep)

    def layer(self, begin: int = 0, end: int = SIZE) -> bytes:
        return os.pread(self.fd, end - begin, SIZE + begin)

    def neighbours(self) -> bytes:
        return os.pread(self.fd, SIZE, 0) + os.pread(self.fd, SIZE, 2 * SIZE)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    fd = os.open(tmp_path / "data", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"\1" * (3 * SIZE), 0)
    yield Place(fd)
    os.close(fd)


def later(work: Callable[[], bytes]) -> tuple[threading.Thread, list[bytes | BaseException]]:
    """Starts the work in a thread of its own; what comes of it is in the list then."""
    result: list[bytes | BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # noqa: BLE001 (it is looked at by the test)
            result.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, result


def test_a_reader_waits_for_what_it_asked_for(place: Place) -> None:
    tar = place.tar()
    thread, result = later(lambda: tar[1000:3000])
    tar.advance(2999)
    thread.join(SOON)
    assert result == []
    tar.advance(3000)
    thread.join(LONG)
    assert result == [b"\1" * 2000]


def test_the_end_is_the_end(place: Place) -> None:
    tar = place.tar()
    assert len(tar) > 2**60
    thread, result = later(lambda: tar[1000:5000])
    tar.advance(3000)
    thread.join(SOON)
    assert result == []
    tar.end(3500)
    thread.join(LONG)
    assert result == [b"\1" * 2500]
    assert len(tar) == 3500
    assert tar[3500:4000] == tar[9000:9001] == b""


def test_abandoned(place: Place) -> None:
    tar = place.tar()
    thread, result = later(lambda: tar[0:1])
    thread.join(SOON)
    tar.abandon()
    thread.join(LONG)
    assert [type(error) for error in result] == [AbandonedError]
    tar.advance(100)
    with pytest.raises(AbandonedError):
        tar.read(0, 1)


def test_only_what_was_read_is_given_back(place: Place) -> None:
    before = place.neighbours()
    tar = place.tar()
    tar.end(SIZE)
    for position in range(0, SIZE, 777_777):
        tar.read(position, 1000)
        tar.release(position)
        assert place.layer(position) == b"\1" * (SIZE - position)
    # A little may be left for the next time.
    assert place.layer(0, 8 * MIB) == bytes(8 * MIB)
    tar.drop()
    assert place.layer() == bytes(SIZE)
    assert place.neighbours() == before


def test_what_was_not_written_stays_a_neighbours(place: Place) -> None:
    """Layers lie close to each other: what comes behind the end of one belongs to the next."""
    tar = place.tar()
    tar.end(5 * MIB + 10)
    tar.release(5 * MIB + 10)
    tar.drop()
    page = os.sysconf("SC_PAGESIZE")
    assert place.layer(0, 5 * MIB) == bytes(5 * MIB)
    assert place.layer(5 * MIB + page) == b"\1" * (7 * MIB - page)


def test_kept(place: Place) -> None:
    tar = place.tar(keep=True)
    tar.end(SIZE)
    tar.release(SIZE)
    tar.ignore_rest()
    tar.advance(SIZE)
    tar.drop()
    assert place.layer() == b"\1" * SIZE


def test_the_writer_is_held_up(place: Place) -> None:
    tar = place.tar()
    assert not tar.full(AHEAD)
    assert tar.full(AHEAD + MIB)
    tar.release(MIB)
    assert not tar.full(AHEAD + MIB)
    assert tar.full(AHEAD + 2 * MIB)


def test_but_not_by_a_reader_that_waits_for_it(place: Place) -> None:
    tar = place.tar()
    thread, result = later(lambda: tar[0:SIZE])
    while tar.full(AHEAD + MIB):
        thread.join(SOON)
    assert result == []
    assert not tar.full(SIZE + AHEAD)
    tar.end(SIZE)
    thread.join(LONG)
    assert result == [b"\1" * SIZE]


def test_nobody_reads_the_rest(place: Place) -> None:
    """It passes at full speed, and takes no memory."""
    tar = place.tar()
    tar.advance(MIB)
    tar.ignore_rest()
    assert not tar.full(2**50)
    before = place.neighbours()
    tar.advance(9 * MIB)
    assert place.layer(0, 9 * MIB) == bytes(9 * MIB)
    assert place.layer(9 * MIB) == b"\1" * (3 * MIB)
    assert place.neighbours() == before


def test_bytes_arrive_in_order(place: Place) -> None:
    """A reader beside its writer sees what was written, whatever the pace of both."""
    content = os.urandom(SIZE)
    tar = place.tar()

    def write() -> None:
        for begin in range(0, SIZE, 100_001):
            os.pwrite(place.fd, content[begin : begin + 100_001], SIZE + begin)
            tar.advance(min(begin + 100_001, SIZE))
        tar.end(SIZE)

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write)
        read = b""
        while part := tar.read(len(read), 77_777):
            read += part
            tar.release(len(read))
        written.result()
    assert read == content
