"""The tree layout: real files equal what umoci unpacks, and their data lies in RAM once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError, OutOfMemoryError, RootfsError, RunError
from bootc_live.base.log import Recorder
from bootc_live.config.model import Zram
from bootc_live.rootfs.layouts.built import BuiltRoot
from bootc_live.rootfs.layouts.files.layout import build_tree
from bootc_live.rootfs.ram import RamFs, ram_filesystem, settle
from tests.integration.corpus import CASES, WRITTEN
from tests.integration.corpus.case import Case
from tests.integration.corpus.oracle import ask_umoci, without_new_times
from tests.integration.corpus.verbs import for_layouts
from tests.integration.test_tree_corpus import wanted
from tests.lib.fetching import fetched_archive
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.small_image import BASE, HERE, UPPER
from tests.lib.space import tmpfs
from tests.lib.tar_writer import directory, file, hardlink, layer, sparse_pax, symlink, xattr
from tests.lib.tree_list import differences, tree_list

MIB = 2**20
ROOMY = "size=1G,nr_inodes=0"


@pytest.fixture
def ram(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs for data and tree."""
    with tmpfs(tmp_path / "ram", ROOMY) as where:
        yield where


def built(where: Path, tars: Sequence[bytes], recorder: Recorder | None = None) -> BuiltRoot:
    """The tree of an image of these layers, which are not compressed, in `where`/tree."""
    image = Image([Layer(tar, "none") for tar in tars], architecture=HERE)
    archive = write_archive(where.parent / "image.oci", image)
    try:
        verified = fetched_archive(archive, str(archive), where / "root.erofs")
    finally:
        archive.unlink()
    root = build_tree(verified, str(where), warn=(recorder or Recorder(quiet=True)).warn)
    assert [path.name for path in where.iterdir()] == ["tree"], "the data file stays"
    return root


def compare(case: Case, where: Path) -> None:
    """Builds a case in `where`, and compares it with what the row says."""
    if case.refused:
        with pytest.raises(BootcLiveError):
            built(where, case.layers)
        return
    built(where, case.layers)
    oracle = ask_umoci(Image([Layer(tar) for tar in case.layers]))
    want, got = without_new_times(wanted(case, oracle), tree_list(where / "tree"))
    assert not differences(want, got)


@pytest.mark.parametrize("case", for_layouts(CASES))
def test_tree_equals_umoci(case: Case, ram: Path) -> None:
    compare(case, ram)


# What ext4 cannot hold beside the rest of an inode.
TOO_LARGE_FOR_EXT4 = {"xattr-60k"}
ON_ZRAM = [case for case in WRITTEN if case.name.startswith(("xattr", "sparse", "content"))]


@pytest.mark.parametrize("case", ON_ZRAM, ids=lambda case: case.name)
def test_tree_on_zram_equals_umoci(case: Case, tmp_path: Path) -> None:
    where = tmp_path / "zram"
    where.mkdir()
    with ram_filesystem(RamFs(None, zram=Zram(256 * MIB)), str(where)):
        if case.name in TOO_LARGE_FOR_EXT4:
            with pytest.raises(RootfsError, match="of extended attributes are more than"):
                built(where, case.layers)
            return
        compare(case, where)
        settle(str(where))


def test_times_are_exact(ram: Path) -> None:
    """To the nanosecond, for directories too, whatever is made in them later."""
    when = [("mtime", "1600000000.123456789")]
    made = layer(
        directory("d/", pax=when),
        directory("d/e/", pax=[("mtime", "-1.5")]),
        file("d/e/f", "x", pax=when),
        symlink("d/l", "e", pax=when),
        hardlink("d/h", "d/e/f"),
    )
    built(ram, (layer(directory("./")), made))
    times = {name: os.lstat(ram / "tree" / name).st_mtime_ns for name in ("d", "d/e", "d/e/f", "d/l", "d/h")}
    assert times.pop("d/e") == -1_500_000_000
    assert set(times.values()) == {1_600_000_000_123_456_789}


def test_holes_stay_holes(ram: Path) -> None:
    extents = [(0, b"A" * 5000), (64 * MIB, b"B" * 3000)]
    root = built(ram, (layer(sparse_pax("s", 256 * MIB, extents), sparse_pax("all", 1 << 40, [(1 << 40, b"")])),))
    found = (ram / "tree/s").stat()
    assert (found.st_size, found.st_blocks * 512) == (256 * MIB, 12288)
    assert ((ram / "tree/all").stat().st_size, (ram / "tree/all").stat().st_blocks) == (1 << 40, 0)
    assert root.size < MIB


def random_file(name: str, size: int) -> bytes:
    """A member whose content is like nothing else."""
    return file(name, os.urandom(size))


def many(count: int, size: int) -> bytes:
    """A layer of equally large files."""
    return layer(*(random_file(f"f{number:04}", size) for number in range(count)))


ONE = layer(random_file("one", 25 * MIB))
OTHER = layer(random_file("one", 2 * MIB))
TWICE = many(20, MIB)
HIDING = layer(file(".wh.one"), random_file("two", MIB))
LINKED = layer(random_file("a", 15 * MIB), *(hardlink(f"z{number}", "a") for number in range(9)))
RELINKED = layer(hardlink("b", "a"), random_file("c", 15 * MIB))


@pytest.mark.parametrize(
    "tars",
    [
        pytest.param((many(25, MIB),), id="files"),
        pytest.param((many(3000, 8000),), id="small files"),
        pytest.param((ONE,), id="one file"),
        # Where one half hides the other, not even a moment needs more than what was there before.
        pytest.param((ONE, OTHER, HIDING), id="hidden"),
        pytest.param((LINKED, RELINKED), id="links"),
    ],
)
def test_memory_is_given_back_while_copying(tars: Sequence[bytes], tmp_path: Path) -> None:
    """It runs in a file system with a fourth more than the layers; nothing else than the tree is left in it."""
    unpacked = sum(map(len, tars))
    with tmpfs(tmp_path / "ram", f"size={unpacked * 5 // 4},nr_inodes=0") as where:
        root = built(where, tars)
        usage = os.statvfs(where)
        assert (usage.f_blocks - usage.f_bfree) * usage.f_frsize <= root.size + MIB
        assert root.size <= unpacked * 1.1


def test_data_that_is_needed_twice_is_kept_for_it(tmp_path: Path) -> None:
    """The same layer twice is one span of data for two files each."""
    moved = layer(directory("d/"), *(hardlink(f"d/{number:04}", f"f{number:04}") for number in range(20)))
    with tmpfs(tmp_path / "ram", "size=60M") as where:
        built(where, (TWICE, moved, TWICE))
        for number in range(20):
            new, old = where / f"tree/f{number:04}", where / f"tree/d/{number:04}"
            assert not new.samefile(old)
            assert new.read_bytes() == old.read_bytes()
            assert len(new.read_bytes().strip(b"\0")) > 0.9 * MIB


def test_full(tmp_path: Path) -> None:
    with (
        tmpfs(tmp_path / "ram", "size=31M") as where,
        pytest.raises(OutOfMemoryError, match=r"the file '/f.* has no space left"),
    ):
        built(where, (many(5000, 5000),))


def test_too_many_files(tmp_path: Path) -> None:
    with (
        tmpfs(tmp_path / "ram", "size=64M,nr_inodes=500") as where,
        pytest.raises(OutOfMemoryError, match="holds no more than 500 files"),
    ):
        built(where, (many(600, 1),))


def test_deep_directories(ram: Path) -> None:
    """Deeper than a path can be long, and than there are descriptors."""
    names = ["d" * 2 for _ in range(1300)]
    first, second = "/".join(names), "/".join(["l", *names])
    tars = (layer(file(f"{first}/a", "x"), symlink("l", first)), layer(file(f"{second}/b", "y"), file("c", "z")))
    built(ram, tars)
    found = subprocess.run(["find", ram / "tree", "-type", "f"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert sorted(len(line.split("/")) - len(ram.parts) for line in found.splitlines()) == [2, 1302, 2602]
    subprocess.run(["rm", "-rf", ram / "tree"], check=True)


def test_attributes_that_are_refused_are_counted(ram: Path) -> None:
    recorder = Recorder(quiet=True)
    odd = [xattr("weird.k", "v"), xattr("user.k", "v")]
    built(ram, (layer(directory("d/", pax=odd), file("f", "x", pax=odd), symlink("l", "x", pax=odd[:1])),), recorder)
    (warning,) = recorder.warnings
    assert "weird.*: 3 left out" in warning
    assert os.listxattr(ram / "tree/f") == ["user.k"]


def test_mounted(ram: Path) -> None:
    """Read-only with suid and dev, or as it was asked for; one and the same tree at two places."""
    root = built(ram, (BASE, UPPER))
    places = [ram.parent / name for name in ("one", "two")]
    with ExitStack() as stack:
        for place, options in zip(places, ("", "noatime,nodev"), strict=True):
            place.mkdir()
            stack.enter_context(root.mount(str(place), options))
            with pytest.raises(OSError, match="Read-only file system"):
                (place / "x").touch()
        flags = [os.statvfs(place).f_flag for place in places]
        assert not flags[0] & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)
        assert flags[1] & (os.ST_NODEV | os.ST_NOATIME) == os.ST_NODEV | os.ST_NOATIME
        assert not differences(*(tree_list(place) for place in places))
    for place in places:
        assert not list(place.iterdir())
    with pytest.raises(RunError, match="bogus"), root.mount(str(places[0]), "nodev,bogus"):
        pass
