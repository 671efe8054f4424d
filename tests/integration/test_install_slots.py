"""Slots on partitions that are there, and machines that install themselves as their kernel command line says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.lib.archive_servers import Stored, archive_server
from tests.lib.disk_fixtures import empty as one
from tests.lib.disk_machine import Machine, disk_image
from tests.lib.disks import loop, mounted, probed, run
from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import write_archive
from tests.lib.partitions import kernel_partitions

__all__ = ["one"]

LONG: Final = pytest.mark.long


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[list[str]]:
    """Partitions: two for roots, one with a file system, and one for boot loaders."""
    with (tmp_path / "disk-of-slots").open("wb") as made:
        made.truncate(64 * 2**20)
    esp = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
    lines = f"label: gpt\nsize=12MiB\nsize=16MiB\nsize=12MiB\nsize=12MiB, type={esp}\n"
    subprocess.run(["sfdisk", "--quiet", tmp_path / "disk-of-slots"], input=lines, text=True, check=True)
    with loop(tmp_path / "disk-of-slots") as device, kernel_partitions(device):
        run("mkfs.ext4", "-q", f"{device}p3")
        yield [f"{device}p{number}" for number in (1, 2, 3, 4)]


def test_slots_that_are_there(one: Machine, slots: list[str], program: ForkedProgram) -> None:
    one.offer(disk_image(1))
    options = ["--storage", "slots", "--slot", slots[0], "--slot", slots[1]]
    program.run(*one.install, *options).good()
    uuids = [run("blkid", "-p", "-o", "value", "-s", "PART_ENTRY_UUID", slot) for slot in slots[:2]]
    assert one.settings["slots"] == uuids
    for number, uuid_of_it in enumerate(uuids, 1):
        record = json.loads((one.deployments / f"{number}/deployment.json").read_text())
        assert record["slot"] == uuid_of_it
        assert probed(slots[number - 1])["ID_FS_TYPE"] == "erofs"
        program.run("verify", *one.options).good()
        program.run("health", *one.options).good()
        one.offer(disk_image(number + 1))
        program.run("upgrade", *one.options).good()
    # The first slot has been written again.
    assert sorted(path.name for path in one.deployments.iterdir() if path.name.isdigit()) == ["2", "3"]
    # It is a disk that is in use, by records at least; somebody may want to have it anyway.
    one.clear()
    program.run(*one.install, *options).error("is not empty; it has: erofs")
    program.run(*one.install, *options, "--wipe").good()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--storage slots", "needs two partitions for roots, and --slot names none"),
        pytest.param("--storage slots --slot {0}", "and --slot names 1", marks=LONG),
        pytest.param("--storage slots --slot {0} --slot {1} --slot {2}", "and --slot names 3", marks=LONG),
        ("--storage slots --slot {0} --slot {0}", "are the same partition"),
        ("--storage slots --slot {0} --slot {2}", "is not empty; it has: ext4"),
        ("--storage slots --slot {0} --slot {3} --wipe", "is a partition for boot loaders"),
        ("--storage slots --slot {0} --slot {disk} --wipe", "is no partition"),
        pytest.param("--storage slots --slot {0} --slot {source}", "is no block device", marks=LONG),
        pytest.param("--storage slots --slot {0} --slot /dev/none", "cannot be used: No such file", marks=LONG),
        pytest.param("--slot {0} --slot {1}", "--slot is of no use without slots", marks=LONG),
        ("--wipe", "--wipe is of no use without slots"),
    ],
)
def test_slots_are_refused(options: str, told: str, one: Machine, slots: list[str], program: ForkedProgram) -> None:
    one.offer(disk_image(1))
    words = options.format(*slots, disk=slots[0].rpartition("p")[0], source=one.source).split()
    program.run(*one.install, *words).error(told)
    assert not list(one.boot.glob("loader/*"))
    assert probed(slots[2])["ID_FS_TYPE"] == "ext4"


def test_slots_in_use_are_refused(one: Machine, slots: list[str], program: ForkedProgram, tmp_path: Path) -> None:
    one.offer(disk_image(1))
    with mounted(slots[2], tmp_path / "used"):
        options = ["--storage", "slots", "--slot", slots[0], "--slot", slots[2], "--wipe"]
        program.run(*one.install, *options).error("is in use: ", "is mounted at")


@pytest.mark.parametrize(
    ("kargs", "expected"),
    [
        pytest.param("", {"slots": [], "state": "full", "loader": "systemd-boot"}, marks=LONG),
        ("storage=slots slot.size=8M state=etc bootloader=grub", {"state": "etc", "loader": "grub", "slots": ...}),
        ("xbootldr=100M filesystem=ext4 hostname=node1 karg=quiet", {"arguments": ["quiet"], "slots": []}),
    ],
)
def test_a_machine_installs_itself(
    kargs: str, expected: dict[str, object], program: ForkedProgram, tmp_path: Path
) -> None:
    """As its kernel command line says; a file takes the part of the disk."""
    archive, disk, receipt = tmp_path / "image.oci", tmp_path / "disk", tmp_path / "receipt.json"
    write_archive(archive, disk_image(1))
    with disk.open("wb") as made:
        made.truncate(700 * 2**20)
    with archive_server(Stored(archive.read_bytes())) as server:
        source = server.url()
        receipt.write_text(json.dumps({"source": source, "image": None}))
        words = [f"root=bootc-live:{source}", f"bootc.install={disk}"]
        words += [f"bootc.install.{word}" for word in kargs.split()]
        program.run("install", "from-cmdline", "--cmdline", " ".join(words), "--receipt", receipt).good()
    rows = json.loads(run("sfdisk", "-J", disk))["partitiontable"]["partitions"]
    names = ["ESP", *["XBOOTLDR"] * ("xbootldr" in kargs), *["slotA", "slotB"] * ("slots" in kargs), "root"]
    assert [row["name"] for row in rows] == names
    with loop(disk, "--offset", str(rows[-1]["start"] * 512)) as device, mounted(device, tmp_path / "root") as top:
        found = json.loads((top / "bootc-live/machine.json").read_text())
        etc = top / "bootc-live/deployments/1/etc"
        assert ("hostname" in kargs) == ((etc / "hostname").exists() and (etc / "hostname").read_text() == "node1\n")
    if "slots" in kargs:
        assert [row["size"] * 512 for row in rows if row["name"].startswith("slot")] == [8 * 2**20] * 2
        expected = {**expected, "slots": [row["uuid"].lower() for row in rows if row["name"].startswith("slot")]}
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("kargs", "told"),
    [
        ("bootc.install.bootloader=uki bootc.install.secureboot", "needs a key"),
        ("bootc.install.success.unit=kiosk", "is not the name of a unit"),
        ("bootc.install.hostname=a_b", "is not a host name"),
        ("bootc.install.slot.size=4G", "is of no use without slots"),
    ],
)
def test_arguments_of_a_machine_that_installs_itself(
    kargs: str, told: str, program: ForkedProgram, tmp_path: Path
) -> None:
    words = f"root=bootc-live:docker://registry.example/os:1 bootc.install={tmp_path / 'disk'} {kargs}"
    (tmp_path / "receipt.json").write_text("{}")
    program.run("install", "from-cmdline", "--cmdline", words, "--receipt", tmp_path / "receipt.json").error(told)
