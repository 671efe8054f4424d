"""Roots in slots as the kernel mounts them, with dm-verity. tests/vm/test_own_kernel.py runs this.

All devices of the kernel that it runs on must be ours.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from bootc_live.system.devices.verity import require_verity
from tests.lib.booted import Booted, booted
from tests.lib.disk_machine import taken_for_booted
from tests.lib.disks import run
from tests.lib.program import Program
from tests.lib.slot_machine import SlotMachine, changed, install, slot_archive, slot_machine

BLOCK: Final = 4096


@pytest.fixture(autouse=True, scope="module")
def modules() -> None:
    run("modprobe", "loop")
    require_verity()


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images by their numbers."""
    where = tmp_path_factory.mktemp("archives")
    return [slot_archive(where / f"{number}.oci", number) for number in range(4)]


@pytest.fixture
def machine(program: Program, archives: list[Path], tmp_path: Path) -> Iterator[SlotMachine]:
    """A machine with image 1."""
    install(program, archives[1], tmp_path / "disk")
    with slot_machine(tmp_path / "disk", tmp_path / "machine") as made:
        yield made


def cmdline(machine: SlotMachine, deployment: int) -> str:
    """The kernel command line of a deployment."""
    return next(entry.cmdline for entry in machine.entries if entry.name.deployment == deployment)


@contextmanager
def running(program: Program, machine: SlotMachine, deployment: int, where: Path) -> Iterator[Booted]:
    """Boot a deployment; programs in the block see its kernel command line."""
    where.mkdir()
    line = cmdline(machine, deployment)
    with booted(program, line, where / "boot") as made, taken_for_booted(deployment, line, where):
        yield made


def test_life(machine: SlotMachine, program: Program, archives: list[Path], tmp_path: Path) -> None:
    """The running machine is upgraded twice; what runs is never written to."""

    def verb(*argv: str | Path, status: int = 0) -> dict[str, Any]:
        ended = program.run(*argv, "--json")
        assert ended.status == status, ended.stderr
        told: dict[str, Any] = json.loads(ended.stdout)
        return told

    with running(program, machine, 1, tmp_path / "1") as made:
        assert made.receipt["layout"] == "slot"
        assert made.receipt["deployment"]["verity"] is True
        assert made.mounts["/"].source.startswith("/dev/dm-")
        assert (made.root / "usr/number").read_text() == "1\n" * 3000
        (made.root / "etc/mine").write_text("mine\n")
        (made.root / "var/mine").write_text("mine\n")
        assert verb("switch", archives[2])["deployment"] == 2
        (made.root / "etc/late").write_text("late\n")
        program.run("upgrade", "--finalize").good()
        assert changed(verb("verify", "--all")) == {"1": [], "2": []}
        assert changed(verb("verify")) == {"1": []}
        # Only what does not run is written again.
        content = machine.content("A"), machine.content("B")
        place = content[0].index(b"1\n" * 2048) + 100
        for letter in "AB":
            machine.flip(letter, place)
        faults = {fault["where"][-36:]: fault for fault in verb("fsck", "--repair", status=4)["faults"]}
        slots = [machine.deployments.read(number).slot for number in (1, 2)]
        assert [faults[slot]["repaired"] for slot in slots] == [False, True]
        assert faults[slots[0]]["hint"].startswith("boot another deployment")
        assert (machine.content("A") != content[0], machine.content("B") == content[1]) == (True, True)
        machine.flip("A", place)
        # A record that is wrong does not let it overwrite what runs.
        machine.change_record(1, slot=machine.deployments.read(2).slot)
        program.run("switch", archives[3]).error("the slot", machine.slot("A").name, "is in use")
    run("rm", "-r", machine.boot)
    run("mcopy", "-s", "-Q", "-i", f"{machine.device}p1", "::", machine.boot)
    assert machine.names == ["bootc-live-2-2+3", "bootc-live-1-1"]
    with running(program, machine, 2, tmp_path / "2") as made:
        assert (made.root / "etc/number").read_text() == "2\n"
        assert [(made.root / name).read_text() for name in ("etc/mine", "etc/late", "var/mine")] == [
            "mine\n",
            "late\n",
            "mine\n",
        ]
        machine.change_record(1, slot=json.loads((machine.disk / "bootc-live/machine.json").read_text())["slots"][0])
        program.run("switch", archives[3]).error("deployment 1 is the only one known to be good")
        verb("health")
        assert verb("switch", archives[3])["deployment"] == 3
        assert (made.root / "usr/number").read_text() == "2\n" * 3000
        assert changed(verb("verify", "--all")) == {"2": [], "3": []}


def test_what_was_changed(machine: SlotMachine, program: Program, tmp_path: Path) -> None:
    """A changed block is an error when it is read; without the superblock or with a wrong record, nothing boots."""
    (made,) = machine.deployments.all()
    content = machine.content("A")

    def refused(name: str) -> None:
        (tmp_path / name).mkdir()
        argv = ("--sysroot", tmp_path / name, "--receipt", tmp_path / "receipt.json")
        assert program.run("boot", "--cmdline", cmdline(machine, 1), *argv).error()
        assert list((tmp_path / name).iterdir()) == []

    data = content.index(b"1\n" * 2048)
    machine.flip("A", data + 100)
    with booted(program, cmdline(machine, 1), tmp_path / "data") as there:
        assert (there.root / "etc/hostname").read_text() == "small\n"
        with pytest.raises(OSError, match="Input/output error") as caught:
            (there.root / "usr/number").read_bytes()
        assert caught.value.errno == errno.EIO
    machine.flip("A", data + 100)
    for offset in (1024 + 64, made.blocks * BLOCK):
        machine.flip("A", offset)
        refused(f"at-{offset}")
        machine.flip("A", offset)
    counts: list[object] = [0, 1, made.blocks + 1, made.blocks - 1, 2**32 - 1, -1, 1e400]
    records: list[dict[str, object]] = [
        *({"blocks": count} for count in counts),
        {"blocks": f"{made.blocks} {made.blocks} sha256 {'0' * 64} -"},
        {"slot": ""},
        {"slot": "../../../dev/null"},
        {"slot": json.loads((machine.disk / "bootc-live/machine.json").read_text())["slots"][1]},
    ]
    for number, wrong in enumerate(records):
        before = machine.record(1).read_text()
        machine.change_record(1, **wrong)
        refused(f"record-{number}")
        machine.record(1).write_text(before)
    with booted(program, cmdline(machine, 1), tmp_path / "whole") as there:
        assert (there.root / "usr/number").read_text() == "1\n" * 3000
