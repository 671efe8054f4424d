"""A process that writes into the data file itself: what it wrote is hashed, and what went wrong has one name."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from bootc_live.base.errors import BootcLiveError, ImageError, OutOfMemoryError, RunError, SourceError
from bootc_live.image.store.direct import Inflation
from bootc_live.system.inflate import confined

MIB = 2**20
BEGIN = 3 * MIB
CONTENT = bytes(range(256)) * 4096 * 5


class Copy:
    """A decoder that copies; ``end`` is called with what has come."""

    def __init__(self, end: Callable[[int], object]) -> None:
        """Copy nothing yet."""
        self._end, self._came = end, 0

    def decode(self, data: memoryview) -> Iterator[memoryview]:
        """Yield the data."""
        self._came += len(data)
        yield data

    def end(self) -> None:
        """Check what there was."""
        self._end(self._came)


def fail(error: BaseException) -> NoReturn:
    raise error


def say(message: bytes) -> NoReturn:
    """What a decoder says that was taken over."""
    os.write(2, message)
    os._exit(1)


def _decoder(end: Callable[[int], object], _room: object) -> Copy:
    return Copy(end)


@pytest.fixture(autouse=True)
def _decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders that end in every way."""
    ends: dict[str, Callable[[int], object]] = {
        "copy": lambda _came: None,
        "damaged": lambda _came: fail(ValueError("wrong")),
        "full": lambda _came: fail(OSError(28, "No space left on device")),
        "broken": lambda _came: fail(OSError(5, "Input/output error")),
        "memory": lambda _came: fail(MemoryError()),
        "bug": lambda _came: fail(KeyError("x")),
        "rubbish": lambda _came: say(b"\xff"),
        "endless": lambda _came: say(bytes(8192)),
    }
    for name, end in ends.items():
        monkeypatch.setitem(confined.DECODERS, name, partial(_decoder, end))
    monkeypatch.setitem(confined.DECODERS, "gone", lambda _room: fail(RunError("it is gone", hint="install it")))
    monkeypatch.setitem(confined.DECODERS, "killed", lambda _room: os.kill(os.getpid(), signal.SIGKILL))


def inflation(kind: str, size: int = 64 * MIB, *, stopped: bool = False) -> Inflation:
    return Inflation(kind, BEGIN, BEGIN + size, lambda: stopped, hashlib.sha256())


def chunks() -> Iterator[bytes]:
    return (CONTENT[begin : begin + 100_000] for begin in range(0, len(CONTENT), 100_000))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data file with something before the layer, which stays as it is."""
    path = tmp_path / "data"
    path.write_bytes(b"before")
    return path


def failure(made: Inflation, data: Path, given: Iterator[bytes] | None = None) -> BootcLiveError:
    """The error; nothing of the layer is in the file afterwards."""
    with pytest.raises(BootcLiveError) as caught:
        made.into(str(data), given or chunks())
    assert data.read_bytes()[:6] == b"before"
    assert os.stat(data).st_blocks * 512 <= 64 * 1024
    return caught.value


def test_what_comes_out_is_hashed_where_it_lies(data: Path) -> None:
    made = inflation("copy")
    assert made.into(str(data), chunks()) == len(CONTENT)
    assert made.hasher.hexdigest() == hashlib.sha256(CONTENT).hexdigest()
    assert data.read_bytes()[BEGIN:] == CONTENT


def test_nothing_at_all(data: Path) -> None:
    made = inflation("copy")
    assert made.into(str(data), iter(())) == 0
    assert made.hasher.hexdigest() == hashlib.sha256().hexdigest()


def test_input_is_read_to_its_end(data: Path) -> None:
    left = chunks()
    failure(inflation("damaged"), data, left)
    assert next(left, None) is None


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("damaged", ImageError, "it is damaged: wrong"),
        ("memory", ImageError, "it is damaged: it needs too much memory"),
        ("bug", ImageError, "it is damaged: its decoder exited with 70"),
        ("full", OutOfMemoryError, "it has no space left: "),
        ("broken", RunError, "a process that decompresses a layer failed: Input/output error"),
        ("gone", RunError, "it is gone"),
        ("killed", RunError, "a process that decompresses a layer was killed"),
        ("rubbish", ImageError, "it is damaged: \ufffd"),
        ("endless", ImageError, "it is damaged: its decoder says too much"),
    ],
)
def test_failures(kind: str, error: type[BootcLiveError], message: str, data: Path) -> None:
    found = failure(inflation(kind), data)
    assert type(found) is error
    assert found.message.startswith(message)
    assert found.hint


def test_more_than_its_part(data: Path) -> None:
    error = failure(inflation("copy", size=2 * MIB), data)
    assert isinstance(error, ImageError)
    assert error.message == "it unpacks to more than 2.0 MiB"
    assert data.stat().st_size == BEGIN + 2 * MIB


def test_input_that_ends_in_an_error(data: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield CONTENT[:MIB]
        raise SourceError("the server is gone", hint="-")

    assert failure(inflation("copy"), data, broken()).message == "the server is gone"


def test_not_wanted_any_more(data: Path) -> None:
    assert "another layer failed" in failure(inflation("copy", stopped=True), data).message
