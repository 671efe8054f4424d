"""A program that writes into the data file itself: what it wrote is hashed, and what went wrong has one name."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError, ImageError, OutOfMemoryError, SourceError
from bootc_live.image.store.direct import Inflation

MIB = 2**20
BEGIN = 3 * MIB
CONTENT = bytes(range(256)) * 4096 * 5


def inflation(*program: str, size: int = 64 * MIB, stopped: bool = False) -> Inflation:
    return Inflation(program, BEGIN, BEGIN + size, lambda: stopped, hashlib.sha256(), ran_full=threading.Event())


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
    made = inflation("cat")
    assert made.into(str(data), chunks()) == len(CONTENT)
    assert made.hasher.hexdigest() == hashlib.sha256(CONTENT).hexdigest()
    assert data.read_bytes()[BEGIN:] == CONTENT


def test_nothing_at_all(data: Path) -> None:
    made = inflation("cat")
    assert made.into(str(data), iter(())) == 0
    assert made.hasher.hexdigest() == hashlib.sha256().hexdigest()


def test_a_program_that_wants_no_more_is_fed_to_the_end(data: Path) -> None:
    left = chunks()
    assert inflation("head", "-c", "1000").into(str(data), left) == 1000
    assert next(left, None) is None


def test_damaged(data: Path) -> None:
    error = failure(inflation("sh", "-c", "head -c 2000000; echo wrong >&2; exit 3"), data)
    assert isinstance(error, ImageError)
    assert error.message == "it is damaged: sh exited with 3: wrong"


def test_more_than_its_part(data: Path) -> None:
    error = failure(inflation("cat", size=2 * MIB), data)
    assert isinstance(error, ImageError)
    assert error.message == "it unpacks to more than 2.0 MiB"
    assert data.stat().st_size == BEGIN + 2 * MIB


def test_a_full_file_system_is_told_by_every_layer(data: Path) -> None:
    """The one that found it full has given its space back by the time the others look."""
    made = inflation("sh", "-c", "head -c 1000000; exit 1")
    made.ran_full.set()
    assert isinstance(failure(made, data), OutOfMemoryError)


def test_input_that_ends_in_an_error(data: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield CONTENT[:MIB]
        raise SourceError("the server is gone", hint="-")

    assert failure(inflation("cat"), data, broken()).message == "the server is gone"


def test_not_wanted_any_more(data: Path) -> None:
    assert "another layer failed" in failure(inflation("cat", stopped=True), data).message
