"""Plans that are made before layers are fetched, for every kind of source, and what this host has."""

from __future__ import annotations

import gzip
import os
import random
from pathlib import Path

import pytest

from bootc_live.base.errors import AdmissionError, SourceError
from bootc_live.base.log import Recorder
from bootc_live.base.units import MIB
from bootc_live.config.model import Backing, Compression, Config, Layout
from bootc_live.config.source_spec import parse_source
from bootc_live.image.candidate import Candidate
from bootc_live.image.recipe import Fetched
from bootc_live.image.sink import DataFile
from bootc_live.image.verified import VerifiedImage
from bootc_live.pipeline import fetch
from bootc_live.rootfs.memory.host import Means, MemoryRoom, kind_of, present_means, present_room
from bootc_live.rootfs.memory.need import RESERVE, StorageOption
from bootc_live.rootfs.plan import RootPlan, plan_root
from bootc_live.source.access import Access
from tests.lib.acquiring import QUICK, allocated, contents
from tests.lib.archive_members import oci_members, tar_of
from tests.lib.archive_servers import Stored, archive_server
from tests.lib.fetching import quiet
from tests.lib.oci_writer import Image, Layer, layout_files
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

NOISE = random.Random(9)
LARGE = [layer(file("large", NOISE.randbytes(3 * MIB))), layer(file("more", NOISE.randbytes(MIB)))]
SMALL = [layer(file("small", NOISE.randbytes(20_000)))]
ALL = Means(frozenset(Compression), zram=True)


def archive(tars: list[bytes], compression: str = "gzip") -> bytes:
    layers = [Layer(tar, "gzip" if compression == "gzip" else "none") for tar in tars]
    return tar_of(oci_members(Image(layers, architecture=HERE)))


def skopeos_order(tars: list[bytes]) -> bytes:
    """Blobs first, index.json after them."""
    files = layout_files(Image([Layer(tar) for tar in tars], architecture=HERE))
    return tar_of({name: data for name, data in sorted(files.items()) if isinstance(data, bytes)})


class Asked:
    """A recipe that plans for a room of so many MiB beside the reserve, and fetches into the data file."""

    begin = 0

    def __init__(self, mib: int, layout: Layout = Layout.INDEX) -> None:
        self.recorder = Recorder(quiet=True)
        self.config = Config(layout=layout)
        self.room = MemoryRoom(RESERVE + mib * MIB, RESERVE + (mib + 100) * MIB, Backing())
        self.path = ""

    def plan(self, found: Candidate) -> RootPlan:
        return plan_root(found, self.config, self.room, ALL, None, self.recorder)

    def fetch(self, found: Candidate, plan: RootPlan) -> VerifiedImage:
        assert plan.room is self.room
        return found.fetch(DataFile())

    def acquire(self, data: Path, *sources: str) -> Fetched[RootPlan]:
        self.path = str(data)
        return fetch([parse_source(source) for source in sources], Access(quiet, policy=QUICK), self, self.recorder)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def large(tmp_path: Path) -> str:
    (tmp_path / "large.oci").write_bytes(archive(LARGE))
    return str(tmp_path / "large.oci")


@pytest.fixture
def small(tmp_path: Path) -> str:
    (tmp_path / "small.oci").write_bytes(archive(SMALL))
    return str(tmp_path / "small.oci")


def test_admitted(large: str, data: Path) -> None:
    asked = Asked(10)
    made = asked.acquire(data, large)
    assert contents(made.image) == LARGE
    assert made.plan.option == StorageOption(Layout.INDEX)
    assert made.plan.estimate.unpacked == sum(map(len, LARGE))
    assert asked.recorder.warnings == []
    assert "estimate" in asked.recorder.phases


def test_refused(large: str, data: Path, tmp_path: Path) -> None:
    asked = Asked(3)
    with pytest.raises(AdmissionError, match="does not fit into memory: layout index needs") as caught:
        asked.acquire(data, large)
    assert repr(large) in caught.value.message
    assert [entry.name for entry in tmp_path.iterdir()] == ["large.oci"]


def test_nothing_of_a_layer_was_fetched(data: Path) -> None:
    content = archive(LARGE)
    with archive_server(Stored(content)) as server:
        with pytest.raises(AdmissionError):
            Asked(3).acquire(data, server.url())
        assert server.sent < 300_000 < len(content)


def test_a_smaller_image_has_its_turn(large: str, small: str, data: Path) -> None:
    asked = Asked(3)
    made = asked.acquire(data, large, small)
    assert contents(made.image) == SMALL
    assert "does not fit" in str(made.attempts[0].error)
    assert any("going on with the next source" in warning for warning in asked.recorder.warnings)
    assert made.plan.estimate.unpacked < MIB


def test_none_fits(large: str, data: Path) -> None:
    with pytest.raises(SourceError, match=r"none of the 2 sources can be used: 1\. .*nowhere.*2\. .*does not fit") as c:
        Asked(3).acquire(data, "/nowhere.oci", large)
    assert "more memory" in c.value.hint


def test_what_came_before_does_not_count(large: str, data: Path, tmp_path: Path) -> None:
    """The first source breaks off after a layer; what the second needs is judged as if it were the first."""
    broken = bytearray(archive(LARGE, "none"))
    broken[broken.index(LARGE[1]) + 1000] ^= 1
    (tmp_path / "broken.oci").write_bytes(broken)
    assert contents(Asked(5).acquire(data, str(tmp_path / "broken.oci"), large).image) == LARGE


@pytest.mark.parametrize("order", [archive, skopeos_order])
def test_streams(order: object, data: Path, tmp_path: Path) -> None:
    content = archive(LARGE) if order is archive else skopeos_order(LARGE)
    (tmp_path / "image.oci.gz").write_bytes(gzip.compress(content, 1))
    asked = Asked(20)
    made = asked.acquire(data, str(tmp_path / "image.oci.gz"))
    assert contents(made.image) == LARGE
    assert made.plan.estimate.streamed
    with pytest.raises(AdmissionError):
        Asked(3).acquire(tmp_path / "data2", str(tmp_path / "image.oci.gz"))
    assert not (tmp_path / "data2").exists()


def test_guesses_are_warned_of(data: Path) -> None:
    with archive_server(Stored(archive(LARGE), ranges=False)) as server:
        asked = Asked(5)
        asked.acquire(data, server.url())
    assert [warning for warning in asked.recorder.warnings if "may not fit" in warning and "a guess" in warning]
    assert allocated(data) > 4 * MIB


def test_the_room_here() -> None:
    room = present_room(Backing(size=5))
    assert 0 < room.available < room.total
    assert room.backing.size == 5


def test_the_means_here(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    assert Compression.NONE in present_means(nowhere, nowhere).compressions
    assert not present_means(nowhere, nowhere).zram
    assert present_means(str(tmp_path), nowhere).zram
    (tmp_path / "modules.dep").write_text("kernel/fs/zramfs.ko:\nkernel/x/xzram.ko.zst: a.ko\n")
    assert not present_means(nowhere, str(tmp_path)).zram
    (tmp_path / "modules.dep").write_text("a.ko:\nkernel/drivers/block/zram/zram.ko.xz: kernel/mm/zsmalloc.ko.xz\n")
    assert present_means(nowhere, str(tmp_path)).zram


def test_libraries_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bootc_live.rootfs.layouts.erofs.compressor._NAMES", dict.fromkeys(Compression, "libnothing.so.9")
    )
    assert present_means(str(tmp_path), str(tmp_path)).compressions == {Compression.NONE}


def test_a_directory_that_was_chosen(tmp_path: Path) -> None:
    usage = os.statvfs(tmp_path)
    room = present_room(Backing(), str(tmp_path))
    assert room.free == pytest.approx(usage.f_bavail * usage.f_frsize, rel=0.01)
    assert room.on_disk is (kind_of(str(tmp_path)) != "tmpfs")
    assert present_room(Backing(), "/dev/shm").on_disk is False
    # A file system in RAM is made there.
    assert present_room(Backing(size=5), str(tmp_path)).free is None


def test_kinds(tmp_path: Path) -> None:
    assert kind_of("/proc") == "proc"
    (tmp_path / "mountinfo").write_text("1 2 0:0 / / rw shared:1 - none none rw\n")
    assert kind_of("/proc", str(tmp_path / "mountinfo")) == ""
