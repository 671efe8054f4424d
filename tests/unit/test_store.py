"""The data file: how layers share it, and what is said when it cannot hold them."""

from __future__ import annotations

import errno
import itertools
import os
import random
import resource
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_live.base.errors import ImageError, OutOfMemoryError
from bootc_live.image.store.layer_store import BLOCK, Slot, layer_store, slots, write_layer
from bootc_live.image.verified import verified_layer
from bootc_live.image.verify import digest_of
from bootc_live.system.files import full

MIB, GIB, TIB = 2**20, 2**30, 2**40
END = 2**32 * BLOCK
BIG_SLOT = Slot(0, GIB)


@pytest.fixture
def data_file() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        yield file.fileno()


def write(fd: int, slot: Slot, pieces: list[bytes], algorithm: str = "sha256") -> int:
    found, size = write_layer(fd, slot, iter(pieces), lambda: False, algorithm)
    assert found == digest_of(b"".join(pieces), algorithm)
    return size


def sizes_to_try() -> Iterator[list[int]]:
    """Few and many layers, empty, equal and very different ones."""
    yield from ([0], [1], [100 * GIB], [0, 0], [GIB, 0], [0] * 1000, [1] * 1000, [GIB] * 127, [GIB] + [0] * 499)
    numbers = random.Random(7)
    for _ in range(200):
        yield [int(2 ** numbers.uniform(0, 33)) for _ in range(numbers.randint(1, 60))]


@pytest.mark.parametrize("sizes", list(sizes_to_try()), ids=itertools.count())
def test_slots(sizes: list[int]) -> None:
    """In order, apart from each other, whole MiB, within what EROFS can address, and never none at all."""
    found = slots(sizes)
    assert len(found) == len(sizes)
    assert found[0].offset == 0
    for slot, after in itertools.pairwise(found):
        assert slot.offset + slot.size <= after.offset
    assert found[-1].offset + found[-1].size <= END
    for slot in found:
        assert slot.offset % MIB == slot.size % MIB == 0
        assert slot.size >= MIB


@pytest.mark.parametrize("sizes", [[GIB + 900 * MIB], [100 * MIB] * 19, [1] * 200 + [GIB], [0], [10 * MIB, GIB, 1]])
def test_gzip_cannot_outgrow_its_slot(sizes: list[int]) -> None:
    """Deflate expands 1032 times at most; images under 1.9 GiB always fit."""
    for size, slot in zip(sizes, slots(sizes), strict=True):
        assert slot.size >= 1032 * size


def test_no_layers() -> None:
    assert slots([]) == []


def test_same_sizes_same_slots() -> None:
    assert slots([5, MIB, GIB]) == slots([5, MIB, GIB])


@pytest.mark.parametrize("pieces", [[], [b"abc"], [b"a", b"", b"bc"], [os.urandom(100_000)] * 3])
def test_content_lies_in_its_slot(data_file: int, pieces: list[bytes]) -> None:
    slot, content = Slot(3 * MIB, MIB), b"".join(pieces)
    assert write(data_file, slot, pieces) == len(content)
    assert os.pread(data_file, MIB, slot.offset) == content
    assert os.pread(data_file, slot.offset, 0).strip(b"\0") == b""


def test_layers_far_apart_take_no_room(data_file: int) -> None:
    for slot in slots([1, 1, 1]):
        write(data_file, slot, [b"abc"])
    assert os.fstat(data_file).st_size > TIB
    assert os.fstat(data_file).st_blocks * 512 < MIB


def test_sha512_diff_ids(data_file: int) -> None:
    assert write(data_file, BIG_SLOT, [b"abc"], "sha512") == 3


def test_wrong_diff_id() -> None:
    with pytest.raises(ImageError) as caught:
        verified_layer(digest_of(b"abd"), digest_of(b"abc"), 0, 3)
    found, given = digest_of(b"abc"), digest_of(b"abd")
    assert caught.value.message == f"it unpacks to the diffID {found}, the image config gives {given}"
    assert caught.value.hint


def test_exactly_full(data_file: int) -> None:
    assert write(data_file, Slot(0, MIB), [bytes(MIB // 2)] * 2) == MIB


def test_larger_than_its_slot(data_file: int) -> None:
    with pytest.raises(ImageError, match=r"^it unpacks to more than 1\.0 MiB$"):
        write(data_file, Slot(0, MIB), [bytes(MIB), b"x"])
    assert os.fstat(data_file).st_size == MIB


def test_stops_when_told(data_file: int) -> None:
    answers = iter([False, False, True])
    with pytest.raises(ImageError, match="another layer failed"):
        write_layer(data_file, BIG_SLOT, itertools.repeat(b"x"), lambda: next(answers))
    assert os.fstat(data_file).st_size == 2


def test_what_was_not_finished_takes_no_space(data_file: int) -> None:
    with pytest.raises(ImageError, match="unpacks to more than"):
        write(data_file, Slot(MIB, 8 * MIB), [bytes([7]) * 4 * MIB, b"x" * 4 * MIB, b"y"])
    assert os.fstat(data_file).st_blocks * 512 < MIB


def test_sources_have_parts_of_their_own(tmp_path: Path) -> None:
    """What the first finished stays where it is; what the second does not need is given back."""
    with layer_store(str(tmp_path / "data"), 3) as store:
        places = [store.slots([MIB, 0])]
        store.next_source()
        places.append(store.slots([GIB] * 3))
        store.next_source()
        places.append([store.rest()])
        ends = [(slots[0].offset, slots[-1].offset + slots[-1].size) for slots in places]
        assert ends[0][0] == 0
        assert ends[0][1] <= ends[1][0] < ends[1][1] <= ends[2][0] < ends[2][1] <= END
        for number, (slot, *_) in enumerate(places):
            found, size = store.write(slot, iter([b"%d" % number * 5 * MIB]), lambda: False)
            store.layers[found] = verified_layer(found, found, slot.offset, size)
        kept = list(store.layers)[1]
        store.keep_only({kept})
        assert list(store.layers) == [kept]
    assert os.stat(tmp_path / "data").st_blocks * 512 == 5 * MIB


def test_layers_one_after_the_other(tmp_path: Path) -> None:
    with layer_store(str(tmp_path / "data")) as store:
        first = store.rest()
        assert store.write(first, iter([bytes(MIB + 1)]), lambda: False)[1] == MIB + 1
        second = store.rest()
        assert second.offset == first.offset + 2 * MIB
        assert second.offset + second.size == first.offset + first.size


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_takes_the_file_away(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error), layer_store(str(tmp_path / "data")):
        raise error
    assert os.listdir(tmp_path) == []


def test_full_device() -> None:
    """/dev/full fails as a full file system does."""
    fd = os.open("/dev/full", os.O_RDWR)
    try:
        with pytest.raises(OutOfMemoryError) as caught:
            write(fd, BIG_SLOT, [b"abc"])
        usage = os.fstatvfs(fd)
    finally:
        os.close(fd)
    total, free = usage.f_blocks * usage.f_frsize / MIB, usage.f_bavail * usage.f_frsize / MIB
    assert caught.value.message == (
        f"it has no space left: its file system has {total:.1f} MiB, {free:.1f} MiB of them free"
    )
    assert "more memory" in caught.value.hint
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC


def test_file_size_limit(data_file: int) -> None:
    before, action = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))
    try:
        with pytest.raises(OutOfMemoryError, match="it has no space left"):
            write(data_file, BIG_SLOT, [bytes(MIB), b"x"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, action)


def test_other_errors_are_not_dressed_up() -> None:
    read, write_end = os.pipe()
    try:
        with pytest.raises(OSError, match="Illegal seek"):
            write(write_end, BIG_SLOT, [b"abc"])
    finally:
        os.close(read)
        os.close(write_end)


def test_message_of_full(data_file: int) -> None:
    error = full(data_file)
    assert error.message.startswith("it has no space left: its file system has ")
