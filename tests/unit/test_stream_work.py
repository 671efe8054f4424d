"""The work for an archive that is read once grows with the archive, whatever stands where in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from bootc_live.formats.oci import manifest as manifest_module
from bootc_live.image import fetch_stream as stream_module
from bootc_live.source.archive import docker as docker_module
from bootc_live.source.archive import layout as layout_module
from bootc_live.source.archive.layout import blob_name
from tests.lib.acquiring import streamed
from tests.lib.archive_members import Members, oci_members, tar_of
from tests.lib.docker_writer import Saved, docker_members
from tests.lib.oci_writer import Image, Layer, sha256
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

# The file whose lines count.
WATCHED = {stream_module.__file__}
READERS = (manifest_module, layout_module, docker_module)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Count lines that run in the files that are watched, turns of loops too, and bytes of JSON that are parsed."""
    work = {"lines": 0, "bytes": 0}

    def line(_frame: FrameType, event: str, _argument: object) -> Any:
        work["lines"] += event == "line"
        return line

    def call(frame: FrameType, _event: str, _argument: object) -> Any:
        return line if frame.f_code.co_filename in WATCHED else None

    for module in READERS:
        plain: Any = module.__dict__["read_json"]

        def read(content: bytes, *more: Any, plain: Any = plain, **named: Any) -> Any:
            work["bytes"] += len(content)
            return plain(content, *more, **named)

        monkeypatch.setattr(module, "read_json", read)
    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield work
    finally:
        sys.settrace(before)
        monkeypatch.undo()


def tars(count: int) -> list[bytes]:
    return [layer(file(f"{number}")) for number in range(count)]


def notes(count: int) -> Members:
    """Return small JSON that nobody asks for."""
    return {f"notes/{number}": b"{}" for number in range(count)}


def parts(count: int) -> tuple[Members, Members, Members]:
    """Return what says which image it is, with a long index, the layers, and small JSON."""
    made = tars(count)
    members = oci_members(Image([Layer(tar, "none") for tar in made], "latest", HERE))
    layers = {name: members.pop(name) for name in map(blob_name, map(sha256, made))}
    index = members["index.json"]
    assert isinstance(index, bytes)
    return members | {"index.json": index.ljust(100 * count)}, layers, notes(3 * count)


def first(count: int) -> Members:
    said, layers, small = parts(count)
    return {**said, **small, **layers}


def last(count: int) -> Members:
    said, layers, small = parts(count)
    return {**layers, **small, **said}


def index_first(count: int) -> Members:
    """Put what the index names after everything else, backwards."""
    said, layers, small = parts(count)
    index = said.pop("index.json")
    return {"index.json": index, **small, **layers, **dict(reversed(said.items()))}


def index_last(count: int) -> Members:
    said, layers, small = parts(count)
    index = said.pop("index.json")
    return {**said, **layers, **small, "index.json": index}


def index_again(count: int) -> list[tuple[str, Any]]:
    """Put the index there again and again."""
    said, layers, small = parts(count)
    index = said.pop("index.json")
    return [("index.json", index), *(("index.json", index) for _ in small), *said.items(), *layers.items()]


def json_layers(count: int) -> Members:
    """Return layers that look like documents."""
    texts = [json.dumps(number).join("[]").encode() for number in range(count)]
    return oci_members(Image([Layer(text, "none") for text in texts], "latest", HERE)) | notes(3 * count)


def one_blob(count: int) -> Members:
    """Return layers that stand in the manifest many times."""
    members = oci_members(Image([Layer(tar, "none") for tar in tars(8) * (count // 8)], "latest", HERE))
    return notes(3 * count) | members


def docker(count: int) -> Members:
    members = docker_members("save", Saved(tars(count)))
    return notes(3 * count) | dict(reversed(members.items()))


ORDERS = (first, last, index_first, index_last, index_again, json_layers, one_blob, docker)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.__name__)
def test_four_times_as_much_is_four_times_the_work(order: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    for count in (16, 64):
        archive = tar_of(order(count))
        with counted(monkeypatch) as work:
            found, _ = streamed(archive, tmp_path / "data")
        assert len(found) == count
        done.append(work)
    for kind in ("lines", "bytes"):
        assert done[0][kind] > 0
        # What is done once makes it less; what is done for each of each would make it sixteen times.
        assert done[1][kind] < 5 * done[0][kind], done
