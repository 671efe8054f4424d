"""Disks in files and on loop devices: what is made of them, as other programs read it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from bootc_live.base.units import MIB
from bootc_live.landing.disk.partitions.model import FileSystem, Partition, PartitionedDisk
from bootc_live.landing.disk.partitions.prepare import partitioned_disk
from tests.lib.disks import loop, mounted, run
from tests.lib.partitions import (
    LARGE,
    ROOT_KINDS,
    SMALL,
    chosen,
    disk_of,
    fill,
    kernel_partitions,
    make,
    rows_for,
    table,
)


def check(path: Path, disk: PartitionedDisk, kinds: Sequence[str | None]) -> None:
    """Compare a disk in a file with what sfdisk, blkid, systemd-repart and the kernel read."""
    run("sfdisk", "--verify", path)
    read = table(path)
    assert (read["label"], read["id"].lower()) == ("gpt", disk.uuid)
    assert [(part["name"], part["uuid"].lower()) for part in read["partitions"]] == [
        (made.name, made.partuuid) for made in disk.partitions
    ]
    sector = read["sectorsize"]
    for part, made, kind in zip(read["partitions"], disk.partitions, kinds, strict=True):
        assert part["start"] * sector % MIB == 0
        place = (f"--offset={part['start'] * sector}", f"--sizelimit={part['size'] * sector}")
        with loop(path, *place) as device:
            probed = subprocess.run(
                ("blkid", "-p", "-o", "export", device), capture_output=True, text=True, check=False
            )
            found = dict(line.split("=", 1) for line in probed.stdout.splitlines())
            assert (found.get("TYPE"), found.get("UUID")) == (kind, made.uuid)
            if kind == "vfat":
                run("fsck.vfat", "-n", device)
                assert run("mtype", "-i", device, "::/file") == "content"
            elif kind is not None:
                with mounted(device, path.with_name("there"), "ro") as where:
                    assert (where / "file").read_bytes() == b"content"


def accepted_by_repart(path: Path, tmp_path: Path) -> None:
    """Let systemd-repart read the table: it finds both partitions, and has nothing to add."""
    definitions = tmp_path / "repart.d"
    definitions.mkdir()
    for number, kind in enumerate(("esp", "root-x86-64")):
        (definitions / f"{number}.conf").write_text(f"[Partition]\nType={kind}\nSizeMinBytes=1M\nWeight=0\n")
    how = ("--dry-run=yes", "--offline=yes", "--json=short", f"--definitions={definitions}", "--architecture=x86-64")
    planned = json.loads(run("systemd-repart", *how, path))
    uuids = [part["uuid"].lower() for part in table(path)["partitions"]]
    assert [(part["uuid"], part["activity"]) for part in planned] == [(uuid, "unchanged") for uuid in uuids]


@pytest.mark.parametrize("kind", ROOT_KINDS)
def test_new_file(kind: FileSystem, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    disk = make(chosen(path, LARGE), kind)
    assert (path.stat().st_size, path.stat().st_mode & 0o777) == (LARGE, 0o600)
    assert os.listdir(tmp_path) == ["disk.img"]
    check(path, disk, ["vfat", kind])
    accepted_by_repart(path, tmp_path)
    # It is sparse.
    assert path.stat().st_blocks * 512 < LARGE // 2
    has_verity = Path(f"/sys/fs/{kind}/features/verity").exists()
    assert (disk["root"].unverifiable is None) == has_verity, disk["root"].unverifiable
    assert disk["ESP"].unverifiable is not None


def test_partitions_for_slots_and_bios(tmp_path: Path) -> None:
    """Images in partitions of their own are two more rows."""
    path, target = tmp_path / "disk.img", chosen(tmp_path / "disk.img", LARGE)
    esp, root = rows_for(target)
    slots = [Partition(name, root.kind, size=100 * MIB) for name in ("slotA", "slotB")]
    state = Partition("state", "4d21b016-b534-45c2-a9fb-5c16e091fd2d", FileSystem.EXT4)
    bios = rows_for(target, bios_boot=True)[0]
    with partitioned_disk(target, [bios, esp, *slots, state]) as disk:
        fill(disk)
        Path(disk["slotB"].device).write_bytes(b"image in a slot")
    check(path, disk, [None, "vfat", None, None, "ext4"])
    part = table(path)["partitions"][3]
    with path.open("rb") as file:
        file.seek(part["start"] * 512)
        assert file.read(15) == b"image in a slot"
    assert part["size"] * 512 == 100 * MIB
    last = table(path)["partitions"][-1]
    assert (last["start"] + last["size"]) * 512 == LARGE - MIB


def test_two_disks_have_nothing_in_common(tmp_path: Path) -> None:
    """Names of partitions are the same, so nothing may be found by them; both can be mounted at once."""
    one, two = chosen(tmp_path / "one", SMALL), chosen(tmp_path / "two", SMALL)
    with partitioned_disk(one, rows_for(one)) as first, partitioned_disk(two, rows_for(two)) as second:
        assert [made.name for made in first.partitions] == [made.name for made in second.partitions]
        for made, other in zip(first.partitions, second.partitions, strict=True):
            for field in ("device", "partuuid", "uuid", "directory"):
                assert getattr(made, field) != getattr(other, field)
        fill(first)
        assert os.listdir(second["ESP"].directory or "") == []
    assert first.uuid != second.uuid


@pytest.mark.parametrize("kind", ROOT_KINDS)
def test_disk(kind: FileSystem, tmp_path: Path) -> None:
    """The kernel has the partitions at once, and no others."""
    with disk_of(tmp_path / "disk", "--partscan", size=LARGE) as device:
        disk = make(chosen(device), kind)
        assert [made.device for made in disk.partitions] == [f"{device}p1", f"{device}p2"]
        again = make(chosen(device), kind, wipe=True)
        assert again.uuid != disk.uuid
        assert {made.partuuid for made in again.partitions}.isdisjoint(made.partuuid for made in disk.partitions)
        assert partitions(device) == ["p1", "p2"]
        run("partx", "--delete", device)
    check(tmp_path / "disk", again, ["vfat", kind])
    accepted_by_repart(tmp_path / "disk", tmp_path)


def partitions(device: str) -> list[str]:
    name = os.path.basename(device)
    return sorted(entry.removeprefix(name) for entry in os.listdir(f"/sys/block/{name}") if entry.startswith(name))


def test_a_loop_device_that_had_no_partitions_has_none(tmp_path: Path) -> None:
    """They would outlive it, as those of another file."""
    with disk_of(tmp_path / "disk") as device:
        target = chosen(device)
        with partitioned_disk(target, rows_for(target)):
            assert partitions(device) == ["p1", "p2"]
        assert partitions(device) == []


def test_sectors_of_4096_bytes(tmp_path: Path) -> None:
    with disk_of(tmp_path / "disk", "--sector-size=4096", size=2 * LARGE) as device:
        assert (chosen(device).sector, chosen(device).size) == (4096, 2 * LARGE)
        disk = make(chosen(device))
        read = table(device)
        assert read["sectorsize"] == 4096
        assert [part["start"] * 4096 // MIB for part in read["partitions"]] == [1, 273]
        with kernel_partitions(device):
            assert run("blkid", "-p", "-o", "value", "-s", "VERSION", disk["ESP"].device) == "FAT32"


def test_old_partitions_and_signatures_are_gone(tmp_path: Path) -> None:
    """The disk had more partitions, and a file system of its own: nobody may find one of them afterwards."""
    with disk_of(tmp_path / "disk") as device:
        run("mkfs.btrfs", "-q", device)
        old = "label: dos\n,20M\n,20M\n,20M\n,\n"
        run(
            "sh", "-c", 'printf "$1" | sfdisk --quiet --no-reread --no-tell-kernel --wipe=never "$2"', "sh", old, device
        )
        run("partx", "--add", device)
        for number in range(1, 5):
            run("mkfs.ext4", "-q", f"{device}p{number}")
        target = chosen(device)
        with partitioned_disk(target, rows_for(target), wipe=True):
            assert partitions(device) == ["p1", "p2"]
        signatures = json.loads(run("wipefs", "--no-act", "--json", device))["signatures"]
        assert {found["type"] for found in signatures} == {"gpt", "PMBR"}
