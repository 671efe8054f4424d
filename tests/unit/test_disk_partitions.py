"""Choosing a disk, and where partitions lie."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import Any, Final

import pytest

from bootc_live.base.errors import BootcLiveError, ConfigError, RunError
from bootc_live.base.units import MIB
from bootc_live.landing.disk.partitions import choose
from bootc_live.landing.disk.partitions.choose import DiskChoice, choose_target
from bootc_live.landing.disk.partitions.disks import Disk, parse_disks
from bootc_live.landing.disk.partitions.model import (
    BIOS_BOOT_TYPE,
    ESP_TYPE,
    ROOT_TYPES,
    SLOT_TYPE,
    FileSystem,
    Partition,
    usual_partitions,
)
from bootc_live.landing.disk.partitions.table import place
from tests.lib.needs import needs

GIB: Final = 1024 * MIB
DISK: Final = Disk("/dev/sda", "disk", 500 * GIB, 512, False, False, "Rotor 3000", "R1", "", ())
BUSY: Final = replace(DISK, path="/dev/sdb", size=20 * GIB, serial="R2", uses=("/dev/sdb1 is mounted at '/'",))
STICK: Final = replace(DISK, path="/dev/sdc", size=8 * GIB, serial="", model="", removable=True)
LOCKED: Final = replace(DISK, path="/dev/sdd", size=9 * GIB, serial="R4", read_only=True)
READER: Final = replace(DISK, path="/dev/sde", size=0, serial="")
OPENED: Final = replace(DISK, path="/dev/sdf", size=GIB, serial="R6")
SMALL: Final = replace(DISK, path="/dev/vda", size=10 * GIB, serial="V", model="")
TWIN: Final = replace(SMALL, path="/dev/vdb")
REST: Final = [DISK, BUSY, STICK, LOCKED, READER, OPENED]


@pytest.fixture(autouse=True)
def claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "is_claimed", lambda path: path == OPENED.path)


@pytest.mark.parametrize(
    ("wanted", "disks", "found"),
    [
        (DiskChoice(smallest=True), REST, DISK),
        (DiskChoice(smallest=True), [*REST, SMALL], SMALL),
        (DiskChoice(serial="R1"), REST, DISK),
        # It is found, and then refused: what was named is not passed over.
        (DiskChoice(serial="R2"), REST, BUSY),
        (DiskChoice(serial="V"), [*REST, SMALL], SMALL),
    ],
)
def test_chosen(wanted: DiskChoice, disks: list[Disk], found: Disk) -> None:
    target = choose_target(wanted, lambda: disks)
    assert (target.path, target.size, target.disk, target.exists) == (found.path, found.size, found, True)


TWO: Final = "/dev/vda: 10240.0 MiB, serial V; /dev/vdb: 10240.0 MiB, serial V"
ONE: Final = "/dev/sda: 512000.0 MiB, model Rotor 3000, serial R1"


@pytest.mark.parametrize(
    ("wanted", "disks", "message", "hint"),
    [
        (DiskChoice(), [DISK], f"no disk is named; disks: {ONE}", "name it by one of: its path, --serial, --smallest"),
        (DiskChoice(), [], "no disk is named; disks: this machine has none", "name it by one of"),
        (
            DiskChoice(path="/x", smallest=True),
            [DISK],
            "a disk is chosen in more than one way; disks: /dev/sda",
            "name",
        ),
        (DiskChoice(serial="", smallest=True), [], "a disk is chosen in more than one way", "name"),
        (DiskChoice(serial="R"), [DISK], f"no disk has the serial number 'R'; disks: {ONE}", "correct --serial"),
        (
            DiskChoice(serial="V"),
            [DISK, SMALL, TWIN],
            f"more than one disk has the serial number 'V': {TWO}",
            "name the",
        ),
        (
            DiskChoice(smallest=True),
            [TWIN, SMALL],
            "more than one disk is the smallest, with 10240.0 MiB: /dev",
            "name",
        ),
        (DiskChoice(smallest=True), [], "no disk can be chosen by --smallest; disks: this machine has none", "name"),
        (
            DiskChoice(smallest=True),
            [BUSY, STICK, LOCKED, READER, OPENED],
            (
                "no disk can be chosen by --smallest; disks: "
                "/dev/sdb: 20480.0 MiB, model Rotor 3000, serial R2: it is in use; "
                "/dev/sdc: 8192.0 MiB: it is removable; "
                "/dev/sdd: 9216.0 MiB, model Rotor 3000, serial R4: it is read-only; "
                "/dev/sde: 0 KiB, model Rotor 3000: it is empty; "
                "/dev/sdf: 1024.0 MiB, model Rotor 3000, serial R6: it is in use"
            ),
            "name the path of a disk",
        ),
        (DiskChoice(serial="R1", size=GIB), [DISK], "'/dev/sda' is a disk, and has its own size", "leave out --size"),
    ],
)
def test_not_chosen(wanted: DiskChoice, disks: list[Disk], message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_target(wanted, lambda: disks)
    assert caught.value.message.startswith(message)
    assert caught.value.hint.startswith(hint)


def entry(name: str, kind: str, *children: dict[str, Any], at: list[str | None] | None = None) -> dict[str, Any]:
    """A device as lsblk writes it."""
    told = {"name": name, "path": f"/dev/{name}", "pkname": None, "type": kind, "size": GIB, "log-sec": 512}
    more = {"ro": False, "rm": False, "model": " Rotor  ", "serial": None, "mountpoints": at or [None]}
    return {**told, **more, **({"children": list(children)} if children else {})}


@pytest.mark.parametrize(
    ("listed", "uses"),
    [
        (entry("sda", "disk"), ()),
        (entry("sda", "disk", entry("sda1", "part"), entry("sda2", "part")), ()),
        (entry("sda", "disk", at=["/mnt"]), ("/dev/sda is mounted at '/mnt'",)),
        (
            entry("sda", "disk", entry("sda1", "part", at=["/", "/var"]), entry("sda2", "part", at=["[SWAP]"])),
            ("/dev/sda1 is mounted at '/'", "/dev/sda1 is mounted at '/var'", "/dev/sda2 is swap space"),
        ),
        (
            entry("sda", "disk", entry("sda1", "part", entry("mapper/vg-root", "lvm", at=["/home"]))),
            ("/dev/mapper/vg-root (lvm) is made of /dev/sda1", "/dev/mapper/vg-root is mounted at '/home'"),
        ),
        (
            entry("sda", "disk", entry("md0", "raid1", entry("mapper/luks", "crypt"))),
            ("/dev/md0 (raid1) is made of /dev/sda", "/dev/mapper/luks (crypt) is made of /dev/md0"),
        ),
    ],
)
def test_uses(listed: dict[str, Any], uses: tuple[str, ...]) -> None:
    (disk,) = parse_disks(json.dumps({"blockdevices": [listed]}))
    assert disk == Disk("/dev/sda", "disk", GIB, 512, False, False, "Rotor", "", "", uses)


@pytest.mark.parametrize("said", ["", "{}", "[]", '{"blockdevices": [{}]}', '{"blockdevices": 1}'])
def test_other_lsblk(said: str) -> None:
    with pytest.raises(RunError, match="lsblk wrote something unexpected"):
        parse_disks(said)


@pytest.mark.parametrize(
    ("size", "sector", "esp"),
    [
        (8 * GIB, 512, GIB),
        (8 * GIB - 1, 512, GIB - MIB),
        (100 * GIB, 512, GIB),
        (2 * GIB, 512, 256 * MIB),
        (200 * MIB, 512, 64 * MIB),
        (GIB, 4096, 272 * MIB),
    ],
)
def test_size_of_esp(size: int, sector: int, esp: int) -> None:
    rows = usual_partitions(size, sector, "arm64", FileSystem.BTRFS, need=77 * GIB)
    assert rows == (
        Partition("ESP", ESP_TYPE, FileSystem.VFAT, esp),
        Partition("root", ROOT_TYPES["arm64"], FileSystem.BTRFS, None, 77 * GIB),
    )


@pytest.mark.parametrize(
    ("size", "wanted", "slot"),
    [
        (8 * GIB, 0, 2 * GIB),
        (200 * GIB, 0, 16 * GIB),
        (2 * GIB - 1, 0, 511 * MIB),
        (200 * GIB, 20 * GIB, 20 * GIB),
        (8 * GIB, None, None),
    ],
)
def test_slots(size: int, wanted: int | None, slot: int | None) -> None:
    """Nothing mounts them by itself; the root has what is left."""
    rows = usual_partitions(size, 512, "amd64", slot_size=wanted, bios_boot=True)
    slots = [Partition(name, SLOT_TYPE, size=slot) for name in ("slotA", "slotB") if slot]
    assert [row.name for row in rows] == ["BIOS", "ESP", *(row.name for row in slots), "root"]
    assert list(rows[2:-1]) == slots
    assert SLOT_TYPE not in ROOT_TYPES.values()
    assert sum(made.size for made in place(rows, size)) == size // MIB * MIB - 2 * MIB


def test_unknown_architecture() -> None:
    with pytest.raises(BootcLiveError, match="no partition type for a root of the architecture 'mips'"):
        usual_partitions(GIB, 512, "mips")


@needs("systemd-id128")
def test_types_are_those_of_the_specification() -> None:
    """As systemd has them."""
    said = subprocess.run(("systemd-id128", "show"), capture_output=True, text=True, check=True).stdout
    known = dict(line.split() for line in said.splitlines())
    names = {"386": "x86", "amd64": "x86-64", "loong64": "loongarch64", "ppc64le": "ppc64-le"}
    for architecture, found in ROOT_TYPES.items():
        assert known[f"root-{names.get(architecture, architecture)}"] == found.replace("-", "")
    assert known["esp"] == ESP_TYPE.replace("-", "")
    assert BIOS_BOOT_TYPE.lower() == BIOS_BOOT_TYPE


def test_places() -> None:
    rows = [
        Partition("one", ESP_TYPE, size=MIB),
        Partition("rest", ESP_TYPE, least=3 * MIB),
        # It is rounded up.
        Partition("last", ESP_TYPE, size=MIB + 1),
    ]
    placed = place(rows, 20 * MIB + 12345)
    assert [(part.number, part.start // MIB, part.size // MIB) for part in placed] == [
        (1, 1, 1),
        (2, 2, 15),
        (3, 17, 2),
    ]
    assert len({part.partuuid for part in placed}) == 3
    assert place(rows, 8 * MIB)[1].size == 3 * MIB
    with pytest.raises(ConfigError, match=r"^it is too small: 8 MiB are needed, and it has 7 MiB$"):
        place(rows, 8 * MIB - 1)
