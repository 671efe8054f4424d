"""What is freed of the data file while files are copied out of it, and what others still need stays."""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_live.rootfs.tree import data as data_module
from bootc_live.rootfs.tree.data import Data
from bootc_live.rootfs.tree.node import Node
from bootc_live.system.files import punch_hole

MIB = 2**20
SIZE = 24 * MIB
CONTENT = os.urandom(SIZE)


@pytest.fixture
def data() -> Iterator[int]:
    """A full data file in RAM."""
    fd = os.memfd_create("data")
    os.write(fd, CONTENT)
    yield fd
    os.close(fd)


def files(*spans: tuple[int, int]) -> list[Node]:
    """Regular files with their data from one byte to another."""
    return [Node(kind="file", offset=begin, size=end - begin) for begin, end in spans]


# Files that are moved, and files that stay: apart, in turns, close together, with the same data, empty.
ROWS = {
    "apart": ([(0, 5 * MIB), (6 * MIB, 7 * MIB)], [(8 * MIB, 9 * MIB)]),
    "in turns": (
        [(n * MIB, n * MIB + MIB) for n in range(0, 24, 2)],
        [(n * MIB, n * MIB + MIB) for n in range(1, 24, 2)],
    ),
    "small": (
        [(n * 1536, n * 1536 + 900) for n in range(1, 9000, 2)],
        [(n * 1536, n * 1536 + 900) for n in range(0, 9000, 2)],
    ),
    "the same": ([(MIB, 4 * MIB), (6 * MIB, 8 * MIB)], [(MIB, 4 * MIB)]),
    "a part": ([(MIB, 8 * MIB)], [(3 * MIB + 5, 3 * MIB + 9), (7 * MIB, 9 * MIB)]),
    "at pages": ([(512, MIB)], [(0, 512), (MIB, MIB + 512)]),
    "empty": ([(0, 0), (2 * MIB, 3 * MIB)], [(0, 0)]),
    "nothing stays": ([(3 * MIB, 20 * MIB)], []),
    "nothing is moved": ([], [(5 * MIB, 6 * MIB)]),
}


@pytest.mark.parametrize("row", ROWS)
def test_what_is_kept_stays(row: str, data: int, tmp_path: Path) -> None:
    moved, kept = (files(*spans) for spans in ROWS[row])
    emptied = Data(data, kept)
    emptied.drop_garbage(moved)
    for number, (node, after) in enumerate(itertools.zip_longest(moved, moved[1:])):
        target = os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT)
        emptied.copy(node, target, after.offset if after else node.offset + node.size)
        assert os.pread(target, SIZE, 0) == CONTENT[node.offset : node.offset + node.size]
        os.close(target)
    for node in kept:
        assert os.pread(data, node.size, node.offset) == CONTENT[node.offset : node.offset + node.size]
    emptied.drop_garbage([])
    for node in kept:
        assert os.pread(data, node.size, node.offset) == CONTENT[node.offset : node.offset + node.size]
    # Parts between files that are too small for a call, and the pages at both ends.
    most = sum(node.size + 2 * 64 * 1024 for node in kept)
    assert os.fstat(data).st_blocks * 512 <= min(most, SIZE)


def test_holes_take_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers are terabytes apart in the data file."""
    calls = list[int]()

    def counted(fd: int, offset: int, size: int) -> None:
        calls.append(offset)
        punch_hole(fd, offset, size)

    monkeypatch.setattr(data_module, "punch_hole", counted)
    fd = os.open(tmp_path / "sparse", os.O_RDWR | os.O_CREAT)
    places = [0, 3 * 2**30, 2**40, 2**40 + 2**31]
    for place in places:
        os.pwrite(fd, b"data", place)
    os.ftruncate(fd, 2**41)
    Data(fd).drop_garbage([])
    assert calls == places
    assert os.fstat(fd).st_blocks * 512 < mmap.PAGESIZE
    os.close(fd)


def test_pages_between_two_parts_are_freed(data: int, tmp_path: Path) -> None:
    """Parts that are freed one after the other meet within a page."""
    (moved,) = files((MIB + 512, 21 * MIB + 512))
    emptied = Data(data)
    emptied.drop_garbage([moved])
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    emptied.copy(moved, target, 21 * MIB + 512)
    os.close(target)
    assert os.fstat(data).st_blocks * 512 <= mmap.PAGESIZE


def test_little_is_in_memory_twice(data: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if what is moved is large."""
    (moved,) = files((MIB, 23 * MIB))
    emptied = Data(data, files((0, 4096), (23 * MIB + 5, 24 * MIB)))
    emptied.drop_garbage([moved])
    held = []
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)

    def move(source: int, start: int, count: int, to: int) -> int:
        held.append(os.fstat(data).st_blocks * 512 - (24 * MIB - start))
        return os.sendfile(to, data, source, count)

    monkeypatch.setattr(emptied, "_move", move)
    emptied.copy(moved, target, 23 * MIB)
    os.close(target)
    assert len(held) >= 22
    assert max(held) <= 2 * MIB
