"""The cache of layers: what is taken from it, what is not, and that nothing in it is trusted."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootc_live.base.errors import OutOfMemoryError, RootfsError, SourceError
from bootc_live.base.log import Recorder
from bootc_live.config.source_spec import parse_source
from bootc_live.image.recipe import IntoSink
from bootc_live.image.resolve import resolve_image
from bootc_live.image.sink import DataFile, LayerPlace, LayerProgress
from bootc_live.image.size.estimate import estimate
from bootc_live.image.size.unpacked import Basis
from bootc_live.pipeline import fetch
from bootc_live.source import cache as cache_module
from bootc_live.source.archive.opening import open_archive
from bootc_live.source.cache import DiskCache
from bootc_live.source.interface import StreamSource
from bootc_live.system.files import copy_part
from tests.lib.acquiring import Attempted, contents
from tests.lib.oci_writer import Compression, Image, Layer, compress, sha256, write_archive
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

MIB = 2**20
TARS = [layer(file("one", b"1" * 5000)), layer(file("two", b"2" * 70_000)), layer(file("three", b"3"))]


class Warm:
    """An image whose layers are in a cache, and copies of it whose layers cannot be fetched."""

    def __init__(self, where: Path, compression: Compression = "gzip") -> None:
        self.where, self.cache = where, where / "cache"
        made = Image([Layer(tar, compression) for tar in TARS], architecture=HERE)
        self.whole = write_archive(where / "whole.oci", made)
        blobs = [f"blobs/sha256/{sha256(compress(tar, compression)).partition(':')[2]}" for tar in TARS]
        self.empty = write_archive(where / "empty.oci", made, without=tuple(blobs))
        self.runs = 0

    def run(self, source: Path, sink: DataFile | None = None, **changes: object) -> tuple[list[bytes], DiskCache]:
        """Fetch a source with the cache; return its layers and the cache as this run saw it."""
        self.runs += 1
        recorder = Recorder(quiet=True)
        used = DiskCache(str(self.cache), recorder, **changes)  # type: ignore[arg-type]
        tried = Attempted({"cache": used}, recorder=recorder)
        recipe = IntoSink(str(self.where / f"data{self.runs}"), sink or DataFile())
        fetched = fetch([parse_source(str(source))], tried.access, recipe, recorder)
        self.warnings = recorder.warnings
        return contents(fetched.image), used

    def layer(self, number: int) -> Path:
        """The file of a layer in the cache."""
        return self.cache / "layers" / sha256(TARS[number]).replace(":", "/")


@pytest.fixture
def warm(tmp_path: Path) -> Warm:
    made = Warm(tmp_path)
    found, cache = made.run(made.whole)
    assert found == TARS
    assert cache.added == {sha256(tar) for tar in TARS}
    assert not cache.used
    return made


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_second_run_fetches_nothing(tmp_path: Path, compression: Compression) -> None:
    made = Warm(tmp_path, compression)
    with pytest.raises(SourceError):
        made.run(made.empty)
    made.run(made.whole)
    found, cache = made.run(made.empty)
    assert found == TARS
    assert cache.used == {sha256(tar) for tar in TARS}
    assert not cache.added
    assert not made.warnings


def test_estimate_knows_what_is_there(warm: Warm) -> None:
    warm.layer(1).unlink()
    cache = DiskCache(str(warm.cache), Recorder(quiet=True))
    with open_archive(str(warm.whole), "typed", None) as source:
        assert not isinstance(source, StreamSource)
        made = estimate(source, resolve_image(source), cache)
    assert [layer.basis is Basis.CACHE for layer in made.layers] == [True, False, True]
    assert [layer.size > 0 for layer in made.layers] == [False, True, False]
    assert made.unpacked - made.guessed == len(TARS[0]) + len(TARS[2])
    assert cache.size(sha256(TARS[2])) == len(TARS[2])
    as_directory(warm.layer(2))
    assert cache.size(sha256(TARS[2])) is None


def test_only_layers_and_only_for_their_owner(warm: Warm) -> None:
    assert sorted(os.listdir(warm.cache)) == ["layers"]
    assert sorted(os.listdir(warm.cache / "layers/sha256")) == sorted(sha256(tar)[7:] for tar in TARS)
    for directory in (warm.cache, warm.cache / "layers", warm.cache / "layers/sha256"):
        assert directory.stat().st_mode & 0o7777 == 0o700
    for number, tar in enumerate(TARS):
        assert warm.layer(number).stat().st_mode & 0o7777 == 0o600
        assert warm.layer(number).read_bytes() == tar


def changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)


def as_directory(path: Path) -> None:
    path.unlink()
    (path / "in").mkdir(parents=True)
    (path / "in/it").touch()


def as_link(path: Path) -> None:
    kept = path.rename(path.parents[3] / "elsewhere")
    path.symlink_to(kept)


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "changed": changed,
    "cut short": lambda path: os.truncate(path, 1000),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + bytes(512)),
    "another layer": lambda path: path.write_bytes(TARS[2]),
    "a directory": as_directory,
    "a link": as_link,
    "a pipe": as_pipe,
}


class Consuming(DataFile):
    """A sink that gets layers one at a time, and sees which were abandoned."""

    consumes = True

    def __init__(self) -> None:
        self.log: list[tuple[str, bool]] = []

    @contextmanager
    def layer(self, place: LayerPlace) -> Iterator[LayerProgress]:
        try:
            yield self
        except BaseException:
            self.log.append((place.diff_id, False))
            raise
        self.log.append((place.diff_id, True))


@pytest.mark.parametrize("consumes", [False, True], ids=["file", "consumed"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_wrong_layer_is_fetched_again(damage: str, consumes: bool, warm: Warm) -> None:
    DAMAGES[damage](warm.layer(1))
    sink = Consuming() if consumes else None
    found, cache = warm.run(warm.whole, sink)
    assert found == TARS
    assert cache.used == {sha256(TARS[0]), sha256(TARS[2])}
    assert len(warm.warnings) == 1
    assert sha256(TARS[1])[7:] in warm.warnings[0]
    if sink is not None:
        # Each layer is passed once as what it is; consumed layers are not there to be put into the cache.
        assert [diff_id for diff_id, good in sink.log if good] == [sha256(tar) for tar in TARS]
        assert not cache.added
        assert not warm.layer(1).exists()
        return
    assert cache.added == {sha256(TARS[1])}
    assert warm.layer(1).read_bytes() == TARS[1]
    assert not warm.layer(1).is_symlink()


def test_wrong_layer_that_cannot_be_fetched(warm: Warm) -> None:
    changed(warm.layer(1))
    with pytest.raises(SourceError):
        warm.run(warm.empty)
    assert not warm.layer(1).exists()


def test_wrong_layer_that_cannot_be_removed(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not asked for a second time."""
    changed(warm.layer(1))

    def fails(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(cache_module, "remove_entries", fails)
    assert warm.run(warm.whole)[0] == TARS
    assert warm.layer(1).read_bytes() == TARS[1]


def test_wrong_layer_that_fills_memory(warm: Warm) -> None:
    """It is the cache that is wrong, not memory that is too small; a right layer stays where it is."""
    single = write_archive(warm.where / "single.oci", Image([Layer(TARS[1])], architecture=HERE))
    before, action = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    right = warm.layer(1).read_bytes()
    warm.layer(1).write_bytes(right + bytes(4 * MIB))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 * MIB, before[1]))
        assert warm.run(single)[0] == [TARS[1]]
        assert "damaged" in warm.warnings[0]
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        with pytest.raises(OutOfMemoryError):
            warm.run(single)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, action)
    assert warm.layer(1).read_bytes() == right


def used(path: Path, seconds: int) -> None:
    os.utime(path, (seconds, seconds))


def test_least_recently_used_go_first(warm: Warm) -> None:
    for number, when in enumerate((20, 10, 30)):
        used(warm.layer(number), when)
    single = write_archive(warm.where / "single.oci", Image([Layer(TARS[1])], architecture=HERE))
    warm.run(single)
    # The oldest is now the first.
    trimmed = DiskCache(str(warm.cache), Recorder(quiet=True)).trim(len(TARS[1]) + len(TARS[2]))
    assert (trimmed.removed, trimmed.removed_size, trimmed.left) == (1, len(TARS[0]), 2)
    assert [warm.layer(number).exists() for number in range(3)] == [False, True, True]


def test_limit_of_a_run(warm: Warm) -> None:
    found, cache = warm.run(warm.whole, limit=len(TARS[0]) + len(TARS[2]))
    assert found == TARS
    assert cache.used
    assert sum(path.stat().st_size for path in (warm.cache / "layers/sha256").iterdir()) <= len(TARS[0]) + len(TARS[2])
    DiskCache(str(warm.cache), Recorder(quiet=True)).trim(0)
    found, cache = warm.run(warm.whole, limit=10_240)
    assert cache.added == {sha256(TARS[0]), sha256(TARS[2])}
    assert any("more than the cache may have" in warning for warning in warm.warnings)


def test_trim_leaves_what_is_not_ours(warm: Warm) -> None:
    kept = [warm.cache / "mine", warm.cache / "layers/mine", warm.cache / "layers/sha256/mine", warm.cache / "work.x"]
    for path in kept:
        path.write_text("mine")
    left = warm.cache / f"work.{'0' * 16}"
    left.mkdir()
    (left / "layers").write_bytes(bytes(5000))
    assert DiskCache(str(warm.cache), Recorder(quiet=True)).trim(0).left == 0
    assert all(path.exists() for path in kept)
    assert not left.exists()
    assert os.listdir(warm.cache / "layers/sha256") == ["mine"]


def test_what_a_killed_run_left_goes_and_what_is_used_stays(warm: Warm) -> None:
    left, in_use = (warm.cache / f"work.{digit * 16}" for digit in "01")
    for path in (left, in_use):
        path.mkdir()
        (path / "half").touch()
    held = os.open(in_use, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with DiskCache(str(warm.cache), Recorder(quiet=True)).workspace() as mine:
        assert not left.exists()
        assert (in_use / "half").exists()
        assert os.path.isdir(mine)
        DiskCache(str(warm.cache), Recorder(quiet=True)).trim(0)
        assert os.path.isdir(mine)
    os.close(held)
    assert not os.path.exists(mine)


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_what_cannot_be_kept(number: int, required: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Warm(tmp_path)

    def fails(source: int, offset: int, size: int, target: int) -> None:
        copy_part(source, offset, size // 2, target)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cache_module, "copy_part", fails)
    if required:
        with pytest.raises(RootfsError, match=os.strerror(number)):
            made.run(made.whole, required=True)
    else:
        assert made.run(made.whole)[0] == TARS
        assert os.strerror(number) in made.warnings[0]
    assert not [path for path in made.cache.rglob("*") if path.is_file()]
    assert sorted(os.listdir(made.cache)) == ["layers"]


def test_many_at_once(tmp_path: Path) -> None:
    """Some fill it, some empty it: everyone gets the right layers."""
    made = Warm(tmp_path)
    problems: list[BaseException] = []
    results: list[list[bytes]] = []

    def run(number: int) -> None:
        try:
            place = tmp_path / str(number)
            place.mkdir()
            mine = Warm(place)
            mine.cache = made.cache
            limit = (0, 20_000, 90_000, MIB)[number]
            results.extend(mine.run(mine.whole, limit=limit)[0] for _ in range(5))
        except BaseException as error:  # noqa: BLE001 (told below)
            problems.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert results == [TARS] * 20
    assert not [name for name in os.listdir(made.cache) if name.startswith("work.")]


def test_copies_between_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(300_000)
    (tmp_path / "a").write_bytes(content)

    def copied(offset: int, size: int) -> bytes:
        with (tmp_path / "a").open("rb") as source, (tmp_path / "b").open("wb") as target:
            copy_part(source.fileno(), offset, size, target.fileno())
        return (tmp_path / "b").read_bytes()

    def refused(*_: object) -> int:
        raise OSError(errno.EXDEV, "")

    for way in (os.copy_file_range, refused, lambda *_: 0):
        monkeypatch.setattr(os, "copy_file_range", way)
        assert copied(1000, 200_000) == content[1000:201_000]
        assert copied(0, 0) == b""
        with pytest.raises(OSError, match="shorter"):
            copied(299_000, 2000)
