"""Archives that a handler of dracut's url-lib fetches: here a script stands for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootc_live.base.errors import SourceError
from bootc_live.config.source_spec import HandlerArchive, parse_source
from tests.lib.acquiring import Attempted, acquired, allocated, contents
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

TARS = [layer(file("one", os.urandom(900_000))), layer(file("two", b"2"))]
URL = "ftp://me:open-sesame-17@server.example/images/root.oci"
TYPED = "ftp://***@server.example/images/root.oci"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "share").mkdir()
    return write_archive(tmp_path / "share/root.oci", Image([Layer(tar, "none") for tar in TARS], architecture=HERE))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The private directory of the program; what is fetched must lie there."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def handler(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `script` what fetches; its arguments are the URL and a directory."""
    path = tmp_path / "fetch-url"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr("bootc_live.source.handler.FETCH_URL", str(path))


def test_fetched_archive(archive: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler(f'echo "$1" >{tmp_path}/asked; cp {archive} "$2/root.oci"; echo "$2/root.oci"', tmp_path, monkeypatch)
    image = acquired(work / "data", URL, directory=str(work))
    assert contents(image) == TARS
    assert image.resolved.source_text == TYPED
    assert (tmp_path / "asked").read_text() == f"{URL}\n"
    assert os.listdir(work) == ["data"]


def test_fetched_archive_shrinks_while_it_is_read(
    archive: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second name keeps the file for us to look at."""
    handler(f'cp {archive} "$2/a"; ln "$2/a" {tmp_path}/kept; echo "$2/a"', tmp_path, monkeypatch)
    assert contents(acquired(work / "data", URL, directory=str(work))) == TARS
    assert allocated(tmp_path / "kept") < 100_000 < allocated(archive)


def test_archive_on_a_share_is_left_alone(
    archive: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies elsewhere, as on NFS, is not ours."""
    before = archive.read_bytes(), allocated(archive)
    handler(f"echo {archive}", tmp_path, monkeypatch)
    for source_text in ("nfs://server.example/images/root.oci", "nfs:server.example:/images/root.oci"):
        assert contents(acquired(work / "data", source_text, directory=str(work))) == TARS
        (work / "data").unlink()
    assert (archive.read_bytes(), allocated(archive)) == before


@pytest.mark.parametrize(
    "script",
    [
        'echo "cannot get $1: 530 Login incorrect" >&2; exit 1',
        'echo half >"$2/half"; echo "no route to $1" >&2; exit 7',
        "kill -9 $$",
        "true",
        'echo "$2/missing"',
        'echo "not an archive" >"$2/a"; echo "$2/a"',
    ],
    ids=["refused", "half", "killed", "silent", "missing", "junk"],
)
def test_failures(script: str, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler(script, tmp_path, monkeypatch)
    attempted = Attempted({"directory": str(work)})
    with pytest.raises(SourceError) as caught:
        attempted.acquire(work / "data", URL)
    assert TYPED in caught.value.message
    assert "sesame" not in caught.value.message + caught.value.hint
    assert os.listdir(work) == []


def test_handler_that_is_no_program(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler("true", tmp_path, monkeypatch)
    (tmp_path / "fetch-url").chmod(0o644)
    with pytest.raises(SourceError, match="cannot fetch"):
        acquired(work / "data", URL, directory=str(work))


@pytest.mark.parametrize("scheme", ["ftp", "tftp", "nfs", "torrent"])
def test_no_handler_here(scheme: str, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootc_live.source.handler.FETCH_URL", str(tmp_path / "missing"))
    spec = parse_source(f"{scheme}://server.example/root.oci")
    assert isinstance(spec, HandlerArchive)
    with pytest.raises(SourceError, match=f"{scheme}:// requires dracut's url-lib") as caught:
        acquired(work / "data", f"{scheme}://server.example/root.oci")
    assert "bootc-live-net" in caught.value.hint
    assert os.listdir(work) == []
