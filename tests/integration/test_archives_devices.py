"""Archives on block devices: found by any name, read without a byte written, and let go of again."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_live.source.device import udev_name
from tests.lib.booted import booted
from tests.lib.disks import MAKERS, loop, make_disk, mountable, mounted, partition, partitioned, probed, run
from tests.lib.leaks import nothing_left
from tests.lib.oci_writer import Image, Layer, write_archive, write_layout
from tests.lib.program import Program
from tests.lib.small_image import BASE, HERE, UPPER, small_image
from tests.lib.tar_writer import file, layer
from tests.lib.tree_list import Line, differences, tree_list

PLACE = "/images/root.oci"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is on the disks."""
    top = tmp_path_factory.mktemp("content")
    (top / "images").mkdir()
    write_archive(top / "images/root.oci", small_image())
    write_layout(top / "images/layout", small_image())
    (top / "images/notes.txt").write_text("no archive\n")
    return top


@pytest.fixture(scope="module")
def wanted(content: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    """The tree that umoci makes of the image."""
    bundle = tmp_path_factory.mktemp("umoci") / "bundle"
    run("umoci", "unpack", "--image", f"{content}/images/layout:latest", bundle)
    return tree_list(bundle / "rootfs")


@pytest.fixture(scope="module")
def disk(content: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ext4 disk."""
    return make_disk("ext4", tmp_path_factory.mktemp("disk") / "ext4.img", content, f"L{uuid.uuid4().hex[:10]}")


@pytest.fixture
def device(disk: Path) -> Iterator[str]:
    """The disk as a loop device."""
    with loop(disk) as path:
        yield path


def unpacked(program: Program, source: str, wanted: list[Line], tmp_path: Path) -> None:
    """Unpacks a source; the tree is right, and gone again."""
    with nothing_left(tmp_path):
        program.run("unpack", source, tmp_path / "tree").good()
        assert not differences(wanted, tree_list(tmp_path / "tree"))
        shutil.rmtree(tmp_path / "tree")


def sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@pytest.mark.parametrize("kind", MAKERS)
def test_file_systems(kind: str, program: Program, content: Path, wanted: list[Line], tmp_path: Path) -> None:
    if not mountable(kind):
        pytest.skip(f"this kernel cannot mount {kind}")
    image = make_disk(kind, tmp_path / "disk.img", content)
    before = sha256(image)
    with loop(image) as device:
        unpacked(program, f"{device}:{PLACE}", wanted, tmp_path)
        for path in ("/images/layout", "//images/../images/root.oci"):
            program.run("inspect", f"{device}:{path}").good()
    assert sha256(image) == before


@pytest.mark.parametrize("kind", ["ext3", "ext4", "xfs"])
def test_journals_are_left_alone(
    kind: str, program: Program, content: Path, wanted: list[Line], tmp_path: Path
) -> None:
    """The file system of a machine that sleeps, or fell over: what its journal holds is not ours to write."""
    image, dirty = make_disk(kind, tmp_path / "disk.img", content), tmp_path / "dirty.img"
    with loop(image) as device, mounted(device, tmp_path / "there") as where:
        for number in range(50):
            (where / f"file-{number}").write_text("x" * number * 100)
        run("sync", "-f", where)
        run("cp", "--sparse=always", image, dirty)
    before = sha256(dirty)
    with loop(dirty) as device:
        unpacked(program, f"{device}:{PLACE}", wanted, tmp_path)
    assert sha256(dirty) == before
    # It had something to write: an ordinary mount does.
    with loop(dirty) as device, mounted(device, tmp_path / "again", "ro"):
        pass
    assert sha256(dirty) != before


def test_write_protected_device(program: Program, disk: Path, wanted: list[Line], tmp_path: Path) -> None:
    with loop(disk, "--read-only") as device:
        unpacked(program, f"{device}:{PLACE}", wanted, tmp_path)


def test_device_that_is_mounted_already(
    program: Program, disk: Path, device: str, wanted: list[Line], tmp_path: Path
) -> None:
    """And stays so."""
    with mounted(device, tmp_path / "there", "ro") as where:
        unpacked(program, f"{device}:{PLACE}", wanted, tmp_path)
        assert (where / "images/root.oci").exists()
    assert disk.exists()


@pytest.mark.parametrize("tag", ["LABEL", "UUID"])
def test_names_of_file_systems(
    tag: str, program: Program, disk: Path, device: str, wanted: list[Line], tmp_path: Path
) -> None:
    assert device
    unpacked(program, f"{tag}={probed(disk)[f'ID_FS_{tag}']}:{PLACE}", wanted, tmp_path)


def test_another_medium_in_the_same_drive(program: Program, content: Path, tmp_path: Path) -> None:
    """What was there a moment ago is forgotten."""
    labels = [f"L{uuid.uuid4().hex[:10]}" for _ in range(2)]
    images = [make_disk("ext4", tmp_path / f"{label}.img", content, label) for label in labels]
    with loop(images[0]) as device:
        program.run("inspect", f"LABEL={labels[0]}:{PLACE}").good()
        shutil.copyfile(images[1], images[0])
        run("blockdev", "--flushbufs", device)
        program.run("inspect", f"LABEL={labels[1]}:{PLACE}").good()
        program.run("inspect", f"LABEL={labels[0]}:{PLACE}").error(f"there is no block device LABEL={labels[0]}")


@pytest.mark.parametrize("tag", ["PARTLABEL", "PARTUUID"])
def test_names_of_partitions(tag: str, program: Program, disk: Path, wanted: list[Line], tmp_path: Path) -> None:
    identity = uuid.uuid4()
    names = {"PARTLABEL": f"live {identity.hex[:8]}", "PARTUUID": str(identity)}
    image = partitioned(tmp_path / "whole.img", disk, names["PARTLABEL"], identity)
    with loop(image) as device, partition(device) as path:
        unpacked(program, f"{path}:{PLACE}", wanted, tmp_path)
        unpacked(program, f"{tag}={names[tag]}:{PLACE}", wanted, tmp_path)


def test_boot(program: Program, device: str, tmp_path: Path) -> None:
    """Once the root is there, nobody needs the medium any more."""
    source = f"{device}:{PLACE}"
    with booted(program, f"root=bootc-live:{source}", tmp_path) as made:
        assert (made.root / "usr/new").read_text() == "new\n"
        assert made.receipt["source"] == source
        assert made.receipt["sources"] == [{"source": source, "used": True, "error": None}]
        assert made.receipt["policy"]["insecure"] is False
        assert device not in Path("/proc/self/mountinfo").read_text()
        # Somebody else may have it all.
        run("mount", "-o", "rw", device, tmp_path)
        run("umount", tmp_path)


def test_boot_from_the_next_medium(program: Program, device: str, tmp_path: Path) -> None:
    """A device that is not there, one without the file, and then the right one."""
    first, second = "LABEL=no-such-label:/root.oci", f"{device}:/images/missing.oci"
    kargs = f"root=bootc-live:{first} bootc.live.fallback={second} bootc.live.fallback={device}:{PLACE}"
    with booted(program, kargs, tmp_path) as made:
        assert [entry["source"] for entry in made.receipt["sources"]] == [first, second, f"{device}:{PLACE}"]
        assert "no block device LABEL=no-such-label" in made.receipt["sources"][0]["error"]
        assert f"{device} does not contain '/images/missing.oci'" in made.receipt["sources"][1]["error"]


@pytest.mark.parametrize("path", ["/images/missing.oci", "/images/root.oci/x"])
def test_missing_file(path: str, program: Program, device: str, tmp_path: Path) -> None:
    source = f"{device}:{path}"
    told = program.run("unpack", source, tmp_path / "tree").error(repr(source), device, path)
    assert "copy the archive there" in told


@pytest.mark.parametrize("path", ["/images/notes.txt", "/images"])
def test_not_an_archive(path: str, program: Program, device: str, tmp_path: Path) -> None:
    source = f"{device}:{path}"
    program.run("unpack", source, tmp_path / "tree").error(repr(source))


@pytest.mark.parametrize("name", ["/dev/no-such-disk", "LABEL=no such label", "PARTLABEL=x'y"])
def test_missing_device(name: str, program: Program, tmp_path: Path) -> None:
    source = f"{name}:{PLACE}"
    told = program.run("unpack", source, tmp_path / "tree").error(f"there is no block device {name}")
    assert "blkid" in told


@pytest.mark.parametrize("content", [bytes(2**20), random.Random(1).randbytes(2**20)], ids=["zeros", "noise"])
def test_not_a_file_system(content: bytes, program: Program, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(content)
    with loop(tmp_path / "disk.img") as device:
        source = f"{device}:{PLACE}"
        program.run("unpack", source, tmp_path / "tree").error(repr(source), f"cannot mount {device}")


def test_damaged_file_system(program: Program, disk: Path, tmp_path: Path) -> None:
    """Its superblock promises more than there is."""
    with disk.open("rb") as opened:
        (tmp_path / "disk.img").write_bytes(opened.read(64 * 1024))
    with loop(tmp_path / "disk.img") as device:
        source = f"{device}:{PLACE}"
        program.run("unpack", source, tmp_path / "tree").error(repr(source))


def test_medium_that_breaks_while_it_is_read(program: Program, small: Path, tmp_path: Path) -> None:
    """One error for a bad sector; and with another source, a boot."""
    top = tmp_path / "top"
    top.mkdir()
    noise = layer(file("noise", random.Random(2).randbytes(8 * 2**20)))
    tars = [Layer(tar, "none") for tar in (BASE, UPPER, noise)]
    write_archive(top / "root.oci", Image(tars, architecture=HERE))
    image = make_disk("ext4", tmp_path / "disk.img", top)
    place = image.read_bytes().index(noise[1024:2048])
    with loop(image) as device:
        # From there on the file behind the device is no more, as if it had gone bad.
        with image.open("r+b") as opened:
            opened.truncate(place + 2**20)
        subprocess.run(["blockdev", "--flushbufs", device], check=True)
        source = f"{device}:/root.oci"
        program.run("unpack", source, tmp_path / "tree").error(repr(source))
        kargs = f"root=bootc-live:{source} bootc.live.fallback={small}"
        with booted(program, kargs, tmp_path) as made:
            assert made.receipt["source"] == str(small)


@pytest.mark.parametrize(
    "label",
    ["USB", "MY DISK", "a/b", "50%", "back\\slash", "Größe", "磁盘", "#+-.:=@_", "$(id);'", '"quoted"', "~!*?&|"],
)
def test_names_of_links_are_those_of_udev(label: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    disk = make_disk("ext2", tmp_path / "disk.img", tmp_path / "empty", label)
    assert udev_name(label) == probed(disk)["ID_FS_LABEL_ENC"]
