"""A zstd file of many frames: divided at the right places, and decoded by several processes into one file."""

from __future__ import annotations

import ctypes
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError, ImageError, SourceError
from bootc_live.image.sink import DataFile
from bootc_live.image.store.direct import Inflation
from bootc_live.system.inflate import confined
from bootc_live.system.inflate.frames import LargeFrame, Run, runs
from bootc_live.system.inflate.zstd import LIBRARY, ZstdDecoder
from tests.lib.threads import no_thread_left
from tests.unit.inflate_cases import RANDOM, ZSTD, cut, flipped, skippable, zstd_stream

MIB = 2**20
BEGIN = 3 * MIB
STEPS = (1, 5, 4096, 1 << 20)


def frame(data: bytes, *, sized: bool = True) -> bytes:
    """A frame that states the size of what it holds, or does not."""
    library = ctypes.CDLL(LIBRARY)
    library.ZSTD_createCCtx.restype = ctypes.c_void_p
    library.ZSTD_compress2.restype = library.ZSTD_CCtx_setParameter.restype = ctypes.c_size_t
    context = ctypes.c_void_p(library.ZSTD_createCCtx())
    content_size_flag = 200
    library.ZSTD_CCtx_setParameter(context, content_size_flag, int(sized))
    room = ctypes.create_string_buffer(len(data) + 1024)
    count = library.ZSTD_compress2(context, room, ctypes.c_size_t(len(room)), data, ctypes.c_size_t(len(data)))
    library.ZSTD_freeCCtx(context)
    return room.raw[:count]


def chunked(sizes: list[int], unsized: Callable[[int], bool]) -> tuple[bytes, bytes]:
    """A file of frames of these sizes with other frames in between, and what it holds."""
    source = random.Random(1)
    parts, plain = [skippable(0, b"")], []
    for number, size in enumerate(sizes):
        data = source.randbytes(size // 2) + bytes(size - size // 2)
        plain.append(data)
        parts.append(frame(data, sized=not unsized(number)))
    return b"".join([*parts, skippable(3, b"t" * 70_000)]), b"".join(plain)


SIZES = [100, 0, 300_000, 1, 2 * MIB, 70_000, 70_000, 3 * MIB, *[40_000] * 60, 0, 255, 256, 65_791, 65_792, 3 * MIB, 7]
FILES = {
    "all-sized": chunked(SIZES, lambda _number: False),
    "some-unsized": chunked(SIZES, lambda number: number % 5 == 2),
    "none-sized": chunked(SIZES, lambda _number: True),
    "large": chunked([100, 24 * MIB, 100], lambda number: number == 1),
    "much-from-little": (frame(bytes(40 * MIB)), bytes(40 * MIB)),
    "nothing": (b"", b""),
    "one-empty": (frame(b""), b""),
    "only-skippable": (skippable(1, b"x") * 3, b""),
    "incompressible": (frame(RANDOM) * 12, RANDOM * 12),
}


def read(data: bytes, step: int) -> list[tuple[bytes, int]]:
    """The runs, and how many frames are in each; a large frame counts as none."""
    return [_whole(run) for run in runs(cut(data, step))]


def _whole(run: Run | LargeFrame) -> tuple[bytes, int]:
    return (run.data, run.frames) if isinstance(run, Run) else (b"".join(run.pieces), 0)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("step", [1000, 70_000, 1 << 20, 1 << 26])
def test_runs_hold_whole_frames(name: str, step: int) -> None:
    data, plain = FILES[name]
    found = read(data, step)
    assert b"".join(part for part, _ in found) == data
    came = []
    for part, frames in found:
        ends: list[bool] = []
        decoder = ZstdDecoder(ctypes.create_string_buffer(1 << 18), partial(ends.append, True))
        decoded = b"".join(bytes(piece) for piece in decoder.decode(memoryview(bytearray(part))))
        decoder.end()
        assert len(ends) == frames or (len(ends) == 1 and not frames)
        came.append(decoded)
    assert b"".join(came) == plain
    # One that came as a whole is not large.
    assert sum(frames == 0 for _, frames in found) == (name == "large" and step < len(data))


@pytest.mark.parametrize("name", ZSTD)
def test_no_byte_is_lost_whatever_comes(name: str) -> None:
    data = zstd_stream(name).data
    for step in STEPS if len(data) < 20_000 else STEPS[2:]:
        assert b"".join(part for part, _ in read(data, step)) == data


def test_large_frames_are_passed_on_while_they_come() -> None:
    data = FILES["large"][0]
    coming = cut(data, 64 * 1024)
    found = runs(coming)
    first, large = next(found), next(found)
    assert isinstance(first, Run)
    assert isinstance(large, LargeFrame)
    came = sum(len(next(large.pieces)) for _ in range(3))
    assert came < 9 * MIB < len(data)
    came += sum(map(len, large.pieces))
    assert came + len(first.data) + sum(len(_whole(run)[0]) for run in found) == len(data)
    assert next(coming, None) is None


def inflation(most: int, size: int = 64 * MIB, *, stopped: bool = False) -> Inflation:
    return Inflation("zstd", BEGIN, BEGIN + size, lambda: stopped, hashlib.sha256(), DataFile(), most)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data file with something before the layer."""
    path = tmp_path / "data"
    path.write_bytes(b"before")
    return path


@pytest.mark.parametrize("most", [3, 9])
@pytest.mark.parametrize("name", FILES)
def test_several_processes_write_one_file(name: str, most: int, data: Path) -> None:
    packed, plain = FILES[name]
    with no_thread_left():
        made = inflation(most)
        assert made.into(str(data), cut(packed, 100_000)) == len(plain)
    assert made.hasher.hexdigest() == hashlib.sha256(plain).hexdigest()
    assert data.read_bytes()[BEGIN : BEGIN + len(plain)] == plain
    assert data.read_bytes()[:6] == b"before"


@dataclass
class Slow(DataFile):
    """A reader that lets the writer wait some times; ``asked`` has how many chunks had come when it was asked."""

    chunks: Iterator[bytes]
    pulled: int = 0
    asked: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[bytes]:
        """The chunks, counted."""
        for chunk in self.chunks:
            self.pulled += 1
            yield chunk

    def full(self, size: int) -> bool:  # noqa: ARG002
        """Whether it wants no more: at first."""
        self.asked.append(self.pulled)
        return len(self.asked) < WAITS


WAITS = 20


@pytest.mark.parametrize("most", [1, 3])
def test_the_writer_waits_for_the_reader(most: int, data: Path) -> None:
    """Also within a large frame: a whole layer may be one."""
    packed, plain = FILES["large"]
    slow = Slow(cut(packed, 100_000))
    made = Inflation("zstd", BEGIN, BEGIN + 64 * MIB, lambda: False, hashlib.sha256(), slow, most)
    assert made.into(str(data), iter(slow)) == len(plain)
    # No chunk is taken while it waits.
    assert len(set(slow.asked[:WAITS])) == 1
    # It is asked again and again, not only between frames.
    assert len(set(slow.asked)) > 10


@pytest.mark.parametrize("name", ZSTD)
def test_streams(name: str, data: Path) -> None:
    stream = zstd_stream(name)
    chunks = cut(stream.data, 4096)
    if stream.plain is None:
        assert failure(inflation(3), data, chunks).message.startswith("it is damaged: ")
    else:
        assert inflation(3).into(str(data), chunks) == len(stream.plain)
        assert data.read_bytes()[BEGIN : BEGIN + len(stream.plain)] == stream.plain
    assert next(chunks, None) is None


def failure(made: Inflation, data: Path, given: Iterator[bytes]) -> BootcLiveError:
    """The error; nothing of the layer is in the file afterwards."""
    with no_thread_left(), pytest.raises(BootcLiveError) as caught:
        made.into(str(data), given)
    assert data.read_bytes()[:6] == b"before"
    assert os.stat(data).st_blocks * 512 <= 64 * 1024
    return caught.value


def damaged(packed: bytes) -> Iterator[tuple[str, bytes]]:
    for place in (1000, len(packed) // 3, len(packed) // 2, len(packed) - 75_000):
        yield f"flipped at {place}", flipped(packed, place)
    yield "cut", packed[: len(packed) * 2 // 3]
    yield "rubbish behind", packed + b"rubbish"


def test_damaged_files(data: Path) -> None:
    name = "some-unsized"
    for what, packed in damaged(FILES[name][0]):
        chunks = cut(packed, 100_000)
        made = inflation(3)
        try:
            made.into(str(data), chunks)
            # A changed byte of a literal: what the digest is for.
            problem = "" if made.hasher.digest() == hashlib.sha256(FILES[name][1]).digest() else "digest"
        except ImageError as error:
            problem = error.message
        assert problem.startswith(("it is damaged: ", "it unpacks to more than ", "digest")), what
        assert next(chunks, None) is None


def test_more_than_its_part(data: Path) -> None:
    error = failure(inflation(3, size=4 * MIB), data, cut(FILES["all-sized"][0], 100_000))
    assert error.message == "it unpacks to more than 4.0 MiB"
    assert data.stat().st_size <= BEGIN + 4 * MIB


def test_input_that_ends_in_an_error(data: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield FILES["all-sized"][0][: 3 * MIB]
        raise SourceError("the server is gone", hint="-")

    assert failure(inflation(3), data, broken()).message == "the server is gone"


def test_not_wanted_any_more(data: Path) -> None:
    made = inflation(3, stopped=True)
    assert "another layer failed" in failure(made, data, cut(FILES["all-sized"][0], 100_000)).message


class Liar:
    """A decoder that was taken over: it writes what it likes and reports what it likes."""

    def __init__(self, frame_ended: Callable[[], object], lie: Callable[[Callable[[], object]], None]) -> None:
        """Lie at the first input."""
        self._frame_ended, self._lie = frame_ended, lie

    def decode(self, data: memoryview) -> Iterator[bytes]:
        """Lie."""
        del data
        self._lie(self._frame_ended)
        yield b""

    def end(self) -> None:
        """Be content."""


def many(count: int, what: Callable[[], object]) -> None:
    for _ in range(count):
        what()


LIES: dict[str, Callable[[Callable[[], object]], None]] = {
    "all is done at once": lambda ended: many(1000, ended),
    "more than it should": lambda ended: many(50, lambda: (os.write(1, bytes(MIB // 10)), ended())),
    "a message without end": lambda _ended: many(100, lambda: os.write(2, b"x" * 4096)),
    "an end": lambda _ended: os._exit(0),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_process_that_was_taken_over_says(lie: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest is that of what lies in the file, so that it is wrong; or there is an error."""
    monkeypatch.setattr(confined, "ZstdDecoder", lambda _room, frame_ended: Liar(frame_ended, LIES[lie]))
    packed, plain = FILES["all-sized"]
    made = inflation(3)
    with no_thread_left():
        try:
            size = made.into(str(data), cut(packed, 100_000))
        except ImageError as error:
            problem = error.message
        else:
            came = data.read_bytes()[BEGIN : BEGIN + size].ljust(size, b"\0")
            hashed = made.hasher.digest()
            problem = "digest" if hashed == hashlib.sha256(came).digest() != hashlib.sha256(plain).digest() else ""
    assert problem.startswith(("it is damaged: ", "it unpacks to more than ", "digest"))
