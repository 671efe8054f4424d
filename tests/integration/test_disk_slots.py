"""Roots in slots: installed, upgraded, rolled back; what is refused, and what a power cut leaves.

tests/integration/slots_device.py is about what the kernel does with them.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from bootc_live.base.units import MIB
from bootc_live.cli.options.parser import parse_arguments
from bootc_live.landing.disk.partitions.model import SLOT_TYPE
from bootc_live.system.cleanup.guard import EndedError, run_in_child, unshare_mounts
from tests.lib.disks import mounted, run
from tests.lib.partitions import table
from tests.lib.program import Program
from tests.lib.slot_machine import SLOT, SlotMachine, changed, install, slot_archive, slot_machine
from tests.lib.tar_writer import file, layer
from tests.lib.tree_list import differences, tree_list

BLOCK: Final = 4096


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images by their numbers."""
    where = tmp_path_factory.mktemp("archives")
    return [slot_archive(where / f"{number}.oci", number) for number in range(5)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image that does not fit into a slot."""
    more = layer(file("usr/large", random.Random(1).randbytes(SLOT)))
    return slot_archive(tmp_path_factory.mktemp("large") / "large.oci", 3, more)


@pytest.fixture(scope="module")
def installed(program: Program, archives: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with image 1."""
    disk = tmp_path_factory.mktemp("installed") / "disk"
    install(program, archives[1], disk)
    return disk


@pytest.fixture
def machine(installed: Path, tmp_path: Path) -> Iterator[SlotMachine]:
    """A copy of that."""
    run("cp", "--sparse=always", installed, tmp_path / "disk")
    with slot_machine(tmp_path / "disk", tmp_path / "machine") as made:
        yield made


def verb(program: Program, machine: SlotMachine, *argv: str | Path) -> dict[str, Any]:
    """What a verb tells of a machine."""
    told: dict[str, Any] = json.loads(program.run(*argv, *machine.options, "--json").good().stdout)
    return told


def test_installed(machine: SlotMachine, program: Program, archives: list[Path], tmp_path: Path) -> None:
    """What other programs read of the disk; the root's tree is the one that the verb for images makes."""
    parts = table(tmp_path / "disk")["partitions"]
    assert [part["name"] for part in parts] == ["ESP", "slotA", "slotB", "root"]
    for part in parts[1:3]:
        assert (part["size"] * 512, part["type"].lower()) == (SLOT, SLOT_TYPE)
    (made,) = machine.deployments.all()
    settings = json.loads((machine.disk / "bootc-live/machine.json").read_text())
    assert settings["slots"] == [part["uuid"].lower() for part in parts[1:3]]
    assert (made.slot, made.verity) == (settings["slots"][0], True)
    assert f"root=bootc-live:deployment:{settings['root']}:1@{made.root}" in machine.entries[0].cmdline
    assert machine.entries[0].cmdline.endswith(" ro")
    how = ("--no-superblock", "--salt=-", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096")
    count = (f"--data-blocks={made.blocks}", f"--hash-offset={made.blocks * BLOCK}")
    run("veritysetup", "verify", *how, *count, machine.slot("A"), machine.slot("A"), made.root)
    program.run("erofs", archives[1], tmp_path / "image").good()
    with mounted(str(machine.slot("A")), tmp_path / "slot", "ro") as here:
        run("mount", "-o", "ro,loop", tmp_path / "image", "/mnt")
        try:
            # The verb's image has no times.
            lines = [[line.but(mtime="") for line in tree_list(top)] for top in (here, "/mnt")]
        finally:
            run("umount", "/mnt")
        assert not differences(*lines)
        assert (here / "etc/number").stat().st_mtime > 0
    assert not any(machine.content("B"))
    assert list((machine.disk / "bootc-live/objects").iterdir()) == []
    assert machine.boots() == 1


def test_life(machine: SlotMachine, program: Program, archives: list[Path]) -> None:
    """Each upgrade takes the other slot; what is in it goes; rolled back and forth."""
    etc = machine.disk / "bootc-live/deployments"
    (etc / "1/etc/mine").write_text("mine\n")
    first = machine.content("A")
    assert verb(program, machine, "switch", archives[2])["deployment"] == 2
    assert (machine.letter(2), machine.names, machine.boots()) == ("B", ["bootc-live-2-2+3", "bootc-live-1-1"], 2)
    assert (etc / "2/etc/mine").read_text() == "mine\n"
    (etc / "2/etc/later").write_text("later\n")
    verb(program, machine, "health")
    second = machine.content("B")
    assert machine.content("A") == first
    assert verb(program, machine, "switch", archives[3])["deployment"] == 3
    assert (machine.letter(3), machine.names, machine.boots()) == ("A", ["bootc-live-3-3+3", "bootc-live-2-2"], 3)
    assert machine.content("B") == second
    assert [made.number for made in machine.deployments.all()] == [2, 3]
    assert (etc / "3/etc/later").read_text() == "later\n"
    assert verb(program, machine, "rollback")["deployment"] == 2
    assert machine.boots() == 2
    # What is overwritten was not called good; its number is not used again.
    assert verb(program, machine, "switch", archives[4])["deployment"] == 4
    assert (machine.letter(4), machine.names) == ("A", ["bootc-live-5-4+3", "bootc-live-4-2"])
    program.run("upgrade", "--finalize", *machine.options).good()
    verb(program, machine, "health")
    assert changed(verb(program, machine, "verify", "--all")) == {"2": [], "4": []}
    assert verb(program, machine, "rollback", "--to", "2")["deployment"] == 2
    assert verb(program, machine, "prune", "--keep", "0") == {"removed": []}
    assert verb(program, machine, "prune", "--keep", "2") == {"removed": []}
    rows = verb(program, machine, "status")["disk"]["deployments"]
    assert [row["slot"] for row in rows] == [machine.deployments.read(each).slot for each in (4, 2)]


def test_refused(machine: SlotMachine, program: Program, archives: list[Path], large: Path, tmp_path: Path) -> None:
    """Nothing has changed then, and upgrading works once the reason is gone."""
    verb(program, machine, "switch", archives[2])

    def refused(archive: Path, *named: str) -> str:
        before = machine.names, machine.content("A"), machine.content("B")
        said = program.run("switch", archive, *machine.options).error(*named)
        assert (machine.names, machine.content("A"), machine.content("B")) == before
        return said

    assert "bootc-live health" in refused(archives[3], "deployment 1 is the only one known to be good")
    verb(program, machine, "health")
    verb(program, machine, "pin", "1")
    assert "bootc-live pin --unpin 1" in refused(archives[3], "deployment 1, whose slot the next one needs, is pinned")
    verb(program, machine, "pin", "--unpin", "1")
    said = refused(large, str(large), "is too large: its root needs")
    need, room = re.findall(r"([0-9.]+) MiB", said)
    assert (float(need) > SLOT / MIB, float(room)) == (True, SLOT / MIB)
    with mounted(str(machine.slot("A")), tmp_path / "used", "ro"):
        refused(archives[3], "the slot", str(machine.slot("A")), "is in use")
    assert verb(program, machine, "switch", archives[3])["deployment"] == 3


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--storage", "slots", "--slot-size", "8"), "large.oci' is too large: its root needs"),
        (("--storage", "slots", "--slot-size", "80"), "is too small: 258 MiB are needed, and it has 160 MiB"),
        (("--slot-size", "8"), "--slot-size 8 is of no use without slots"),
        (("--storage", "slots", "--slot-size", "x"), "--slot-size 'x' is not a size"),
    ],
)
def test_not_installed(options: tuple[str, ...], named: str, program: Program, large: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    program.run("install", "to-disk", disk, "--size", "160M", "--source", large, *options).error(named)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["super block", "file", "leaves", "end"])
def test_verify(where: str, machine: SlotMachine, program: Program) -> None:
    (made,) = machine.deployments.all()
    content = machine.content("A")
    data = made.blocks * BLOCK
    offset = {
        "super block": 1024,
        "file": content.index(b"1\n" * 2048) + 100,
        "leaves": data + 40,
        "end": data + 2 * BLOCK + 5,
    }[where]
    assert changed(verb(program, machine, "verify")) == {"1": []}
    assert verb(program, machine, "fsck") == {"deployments": 1, "faults": []}
    machine.flip("A", offset)
    if where == "end":
        # Nothing reads what is behind the tree.
        assert changed(verb(program, machine, "verify")) == {"1": []}
        return
    found = program.run("fsck", *machine.options)
    assert (found.status, found.stdout.count("\n")) == (4, 1)
    assert f"block {offset // BLOCK}: its content has changed (deployment 1); bootc-live fsck --repair" in found.stdout
    program.run("verify", *machine.options).error(f"1 blocks were changed: block {offset // BLOCK}: its content")
    told = program.run("verify", *machine.options, "--json")
    wrong = {"block": offset // BLOCK, "problem": "its content has changed"}
    assert (told.status, json.loads(told.stdout)["1"]["changed"]) == (1, [wrong])
    faults = verb(program, machine, "fsck", "--repair")["faults"]
    assert [(fault["deployments"], fault["repaired"]) for fault in faults] == [([1], True)]
    assert (machine.content("A"), machine.boots()) == (content, 1)


def test_no_repair(machine: SlotMachine, program: Program, archives: list[Path]) -> None:
    """What would make another root is not written, and a kernel alone needs nothing of slots and objects."""
    machine.flip("A", 1024)
    content, source = machine.content("A"), archives[1]
    before = machine.record(1).read_text()
    machine.change_record(1, image=f"sha256:{'0' * 64}")
    assert program.run("fsck", "--repair", *machine.options).status == 4
    machine.record(1).write_text(before)
    root = machine.deployments.read(1).root
    machine.change_record(1, root=f"{int(root[0] == '0')}{root[1:]}")
    said = program.run("fsck", "--repair", *machine.options)
    assert (said.status, f"{str(source)!r} makes another root than the one" in said.stderr) == (4, True), said.stderr
    machine.record(1).write_text(before)
    assert machine.content("A") == content
    machine.flip("A", 1024)
    Path(f"{machine.boot}{machine.entries[0].kernel}").write_bytes(b"other")
    assert verb(program, machine, "fsck", "--repair")["faults"][0]["repaired"]
    assert machine.boots() == 1
    assert list((machine.disk / "bootc-live/objects").iterdir()) == []


# Where the program ends: before or after a function, or within the first half of what it copies.
COPY: Final = "bootc_live.landing.disk.storage.slots:copy_part"
ADD: Final = "bootc_live.disk:add_entry"
MORE_CUTS: Final = [
    ("bootc_live.landing.disk.storage.slots:_remove", "before"),
    ("bootc_live.landing.disk.boot_partition.entry_files:EntryFiles.remove", "after"),
    ("bootc_live.landing.disk.deployments:Deployments.remove", "after"),
    (COPY, "after"),
    ("bootc_live.landing.disk.deployments:Deployments.adding", "before"),
    (ADD, "after"),
]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    ("place", "when"),
    [(COPY, "within"), (ADD, "before"), *(pytest.param(*cut, marks=pytest.mark.long) for cut in MORE_CUTS)],
)
def test_power_cut(
    place: str,
    when: str,
    machine: SlotMachine,
    program: Program,
    archives: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The old deployment boots, or the new one; and the next upgrade works."""
    verb(program, machine, "switch", archives[2])
    verb(program, machine, "health")
    running = machine.content("B")
    module, _, name = place.partition(":")
    *above, last = name.split(".")
    owner: Any = importlib.import_module(module)
    for part in above:
        owner = getattr(owner, part)
    function, test = getattr(owner, last), os.getpid()

    def dying(*arguments: Any, **more: Any) -> Any:
        if os.getpid() == test:
            return function(*arguments, **more)
        if when == "within":
            source, offset, size, target = arguments
            function(source, offset, size // 2, target)
        elif when == "after":
            function(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    def work() -> int:
        arguments = parse_arguments([str(word) for word in ("switch", archives[3], *machine.options)])
        unshare_mounts()
        importlib.import_module(f"bootc_live.cli.{arguments.verb}").main(arguments)
        return 0

    with monkeypatch.context() as patched:
        patched.setattr(owner, last, dying)
        with pytest.raises(EndedError, match="SIGKILL"):
            run_in_child(work)
    done = (place, when) == (ADD, "after")
    assert machine.boots() == (3 if done else 2)
    assert machine.content("B") == running
    if done:
        verb(program, machine, "health")
    assert verb(program, machine, "switch", archives[4])["deployment"] > 2
    assert machine.boots() == 4
    assert len(machine.names) == len(machine.deployments.all()) == 2


def test_a_full_work_directory(machine: SlotMachine, program: Program, large: Path, tmp_path: Path) -> None:
    """The image is made before anything is removed."""
    work = tmp_path / "work"
    work.mkdir()
    before = machine.names
    run("mount", "-t", "tmpfs", "-o", f"size={SLOT * 3 // 2}", "work", work)
    try:
        said = program.run("switch", large, "--workdir", work, *machine.options).error("does not fit")
        assert "--workdir" in said
    finally:
        subprocess.run(["umount", work], check=True)
    assert (machine.names, machine.boots()) == (before, 1)
