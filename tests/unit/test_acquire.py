"""Sources one after the other: what each failure leads to, what is kept of it, and what is told."""

from __future__ import annotations

import gzip
import os
import random
from pathlib import Path
from typing import Any

import pytest

from bootc_live.base.errors import ImageError, OutOfMemoryError, SourceError
from bootc_live.source.archive.opening import open_archive
from tests.lib.acquiring import Attempted, allocated, contents, largest_file
from tests.lib.archive_members import Members, oci_members, tar_of
from tests.lib.archive_servers import Stored, archive_server, cut_at, flipped
from tests.lib.docker_writer import Saved, docker_members
from tests.lib.fetching import plain
from tests.lib.oci_writer import Compression, Image, Layer, compress, sha256, write_archive, write_layout
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

MIB = 2**20
SLACK = 64 * 1024
NOISE = random.Random(11)
SIZES = (900_000, 500_000, 200_000)
TARS = [layer(file(f"file-{size}", NOISE.randbytes(size))) for size in SIZES]
NOUGHT = "sha256:" + "0" * 64
MEMBERS = oci_members(Image([Layer(tar, "none") for tar in TARS], architecture=HERE))


def size_of(name: str) -> int:
    """A member's size, or 0 for what is no layer."""
    content = MEMBERS[name]
    assert isinstance(content, bytes)
    return len(content) if len(content) > 9000 else 0


# Small things first, then the layers from large to small: that is also the order in which they are fetched.
SMALL = [name for name in MEMBERS if not size_of(name)]
LAYERS = sorted((name for name in MEMBERS if size_of(name)), key=size_of, reverse=True)
ORDERED = {name: MEMBERS[name] for name in [*SMALL, *LAYERS]}
ARCHIVE = tar_of(ORDERED)
UNPACKED = sum(map(len, TARS))


def place_of(tar: bytes) -> int:
    """Somewhere in the middle of a layer in the archive."""
    return ARCHIVE.index(tar) + len(tar) // 2


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is known which layers are finished when one fails."""
    monkeypatch.setattr("bootc_live.image.fetch.workers", lambda *_: 1)


@pytest.fixture
def good(tmp_path: Path) -> str:
    (tmp_path / "good.oci").write_bytes(ARCHIVE)
    return str(tmp_path / "good.oci")


def test_in_order(good: str, tmp_path: Path) -> None:
    attempted = Attempted()
    other = write_layout(tmp_path / "layout", Image([Layer(TARS[0], diff_id=NOUGHT)], architecture=HERE))
    foreign = write_archive(tmp_path / "foreign.oci", Image([Layer(TARS[0])], architecture="s390x"))
    sources = ["/nowhere.oci", str(other), str(foreign), "tftp://server.example/root.oci", "LABEL=nobody:/x", good]
    made = attempted.acquire(tmp_path / "data", *sources, "/never-looked-at.oci")
    assert [attempt.source for attempt in made.attempts] == sources
    assert made.attempts[-1].error is None
    told = ["No such file", NOUGHT, "linux/s390x", "url-lib", "no block device"]
    for attempt, text in zip(made.attempts, told, strict=False):
        assert text in str(attempt.error)
    # On the console as in the receipt.
    assert [warning.partition(";")[0] for warning in attempted.recorder.warnings] == [
        str(attempt.error).partition(";")[0] for attempt in made.attempts[:-1]
    ]
    assert contents(made.image) == TARS
    assert made.image.resolved.source_text == good
    assert allocated(tmp_path / "data") < UNPACKED + SLACK


@pytest.mark.parametrize(
    "error", [ValueError("digits"), MemoryError(), RecursionError("deep"), OSError(5, "I/O error")]
)
def test_an_error_that_nobody_thought_of_ends_one_source(
    error: Exception, good: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(path: str, *arguments: Any, **options: Any) -> Any:
        if "bad" in path:
            raise error
        return open_archive(path, *arguments, **options)

    monkeypatch.setattr("bootc_live.source.select.open_archive", opened)
    made = Attempted().acquire(tmp_path / "data", "/bad.oci", good)
    assert type(error).__name__ in str(made.attempts[0].error)
    assert contents(made.image) == TARS


def test_the_only_one_keeps_its_error(tmp_path: Path) -> None:
    wrong = write_archive(tmp_path / "wrong.oci", Image([Layer(TARS[0], diff_id=NOUGHT)], architecture=HERE))
    with pytest.raises(ImageError, match=r"^layer 0 "):
        Attempted().acquire(tmp_path / "data", str(wrong))
    assert os.listdir(tmp_path) == ["wrong.oci"]


def test_no_sources(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no sources"):
        plain([], Attempted().access, tmp_path / "data", Attempted().recorder)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("wrong", ["blob", "diffID"])
@pytest.mark.parametrize("how", ["gzip", "zstd", "none"])
def test_what_turns_out_wrong_in_the_end_is_not_kept(how: Compression, wrong: str, good: str, tmp_path: Path) -> None:
    """All of it has been written by then."""
    blob = compress(TARS[0], how)
    if wrong == "blob":
        # It inflates to the same: a gzip header's time, what follows a tar's end, and another frame of zstd.
        changed = {"gzip": flipped(blob, 4), "zstd": blob + b"\x50\x2a\x4d\x18" + bytes(4), "none": blob + bytes(512)}[
            how
        ]
        bad = Image([Layer(TARS[0], how, changed, digest=sha256(blob), size=len(changed))], architecture=HERE)
    else:
        bad = Image([Layer(TARS[0], how, diff_id=NOUGHT)], architecture=HERE)
    first = write_archive(tmp_path / "bad.oci", bad)
    made = Attempted().acquire(tmp_path / "data", str(first), good)
    assert (sha256(blob) if wrong == "blob" else NOUGHT) in str(made.attempts[0].error)
    assert contents(made.image) == TARS
    assert allocated(made.image.path) < UNPACKED + SLACK


@pytest.mark.parametrize("second", ["stream", "docker", "layout", "ranges"])
def test_finished_layers_serve_every_kind_of_source(second: str, tmp_path: Path) -> None:
    bad = flipped(ARCHIVE, place_of(TARS[2]))
    with archive_server(Stored(bad)) as first:
        if second == "layout":
            path = tmp_path / "layout"
            write_layout(path, Image([Layer(tar, "none") for tar in TARS], architecture=HERE))
            # They are there already: nobody looks for them.
            for tar in TARS[:2]:
                (path / "blobs/sha256" / sha256(tar).partition(":")[2]).write_bytes(b"bad")
            made = Attempted().acquire(tmp_path / "data", first.url(), str(path))
        else:
            docker = tar_of(docker_members("save", Saved(TARS)))
            content = docker if second == "docker" else tar_of(reversed(ORDERED.items()))
            with archive_server(Stored(content, ranges=second != "stream")) as other:
                made = Attempted().acquire(tmp_path / "data", first.url(), other.url())
                if second != "stream":
                    assert other.sent < len(TARS[2]) + 4 * SLACK
    assert contents(made.image) == TARS
    assert allocated(made.image.path) < UNPACKED + SLACK


def test_a_stream_ends_once_all_is_there(tmp_path: Path) -> None:
    """What comes after what was missing is not waited for."""
    members = {name: MEMBERS[name] for name in [*SMALL, *reversed(LAYERS)]}
    members["notes"] = bytes(20 * MIB)
    bad = flipped(ARCHIVE, place_of(TARS[2]))
    attempted = Attempted()
    with archive_server(Stored(bad)) as first, archive_server(Stored(tar_of(members), ranges=False)) as second:
        assert contents(attempted.acquire(tmp_path / "data", first.url(), second.url()).image) == TARS
        assert attempted.access.traffic.hosts[f"127.0.0.1:{second.port}"] < UNPACKED + 4 * MIB


@pytest.mark.parametrize("how", ["cut", "wrong"])
@pytest.mark.parametrize("first", ["plain", "gzip"])
def test_layers_of_a_broken_stream(first: str, how: str, tmp_path: Path) -> None:
    """What had come before is used, or at least not in the way of what comes after."""
    content = ARCHIVE if first == "plain" else gzip.compress(ARCHIVE, 0)
    place = content.index(TARS[2][600:1000])
    if how == "cut":
        stream = cut_at(Stored(content, ranges=False), place, 100)
    else:
        stream = Stored(
            gzip.compress(flipped(ARCHIVE, place_of(TARS[2])), 0) if first == "gzip" else flipped(content, place),
            ranges=False,
        )
    with archive_server(stream) as broken, archive_server(Stored(ARCHIVE)) as second:
        made = Attempted().acquire(tmp_path / "data", broken.url(), second.url())
        sent = second.sent
    assert contents(made.image) == TARS
    assert allocated(made.image.path) < UNPACKED + SLACK
    assert sent < len(TARS[2]) + 4 * SLACK


def test_layers_of_another_image_do_not_stay(tmp_path: Path) -> None:
    """The fallback may hold an older image, which has but one layer in common."""
    older = [layer(file("old", NOISE.randbytes(300_000))), TARS[1]]
    fallback = write_archive(tmp_path / "older.oci", Image([Layer(tar, "none") for tar in older], architecture=HERE))
    with archive_server(Stored(flipped(ARCHIVE, place_of(TARS[2])))) as first:
        made = Attempted().acquire(tmp_path / "data", first.url(), str(fallback))
    assert contents(made.image) == older
    assert allocated(made.image.path) < sum(map(len, older)) + SLACK


def test_many_sources_with_many_layers(tmp_path: Path) -> None:
    """Each has its part of the data file."""
    tars = [layer(file(f"file-{number}", bytes([number]) * 5000)) for number in range(30)]
    members: Members = oci_members(Image([Layer(tar) for tar in tars], architecture=HERE))
    layers = [f"blobs/sha256/{sha256(compress(tar, 'gzip')).partition(':')[2]}" for tar in tars]
    assert members.keys() >= set(layers)
    sources = []
    for number in range(12):
        # Each lacks another one.
        content = {**members, layers[number]: b"\x1f\x8bwrong"}
        (tmp_path / f"{number}.oci").write_bytes(tar_of(content) if number % 2 else gzip.compress(tar_of(content)))
        sources.append(str(tmp_path / f"{number}.oci"))
    (tmp_path / "good.oci").write_bytes(tar_of(members))
    made = Attempted().acquire(tmp_path / "data", *sources, str(tmp_path / "good.oci"))
    assert contents(made.image) == tars
    assert allocated(made.image.path) < sum(map(len, tars)) + 30 * 4096 + SLACK


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_no_space_is_not_the_source_s_fault(kind: str, good: str, tmp_path: Path) -> None:
    """Another source would need as much."""
    if kind == "stream":
        Path(good).write_bytes(gzip.compress(ARCHIVE, 1))
    attempted = Attempted()
    with largest_file(2**34 + MIB), pytest.raises(OutOfMemoryError, match="no space left"):
        attempted.acquire(tmp_path / "data", good, good, good)
    assert attempted.recorder.warnings == []
    assert os.listdir(tmp_path) == ["good.oci"]


def test_interruption_is_the_end(good: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bootc_live.image.candidate.resolve_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Attempted().acquire(tmp_path / "data", good, good)
    assert os.listdir(tmp_path) == ["good.oci"]


def test_nothing_is_left_open(good: str, tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    Attempted().acquire(tmp_path / "data", "/nowhere.oci", good)
    with pytest.raises(SourceError):
        Attempted().acquire(tmp_path / "other", "/nowhere.oci")
    assert os.listdir("/proc/self/fd") == before
