"""Which deployment boots, which are kept, what an upgrade takes over: without booting any of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.lib.disk_fixtures import installed, numbers, run, upgrade
from tests.lib.disk_machine import Machine, Next, booted, boots_next, disk_image, leftovers, machine
from tests.lib.disks import loop, mounted, probed
from tests.lib.disks import run as tool
from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import write_archive
from tests.lib.signing import Key


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Machine]:
    """Empty file systems."""
    with machine(tmp_path) as made:
        yield made


@dataclass(frozen=True)
class Prune:
    """Deployments 1 to 4, each newer than the one before; then what is done, and which are left.

    ``entries`` are the names that the boot loader has given to entries since.
    """

    name: str
    keep: int
    left: list[int]
    done: tuple[tuple[str, ...], ...] = ()
    entries: tuple[tuple[str, str], ...] = ()
    runs: int | None = None


GOOD: Final = (("bootc-live-4-4+3", "bootc-live-4-4"),)
FAILED: Final = (("bootc-live-4-4+3", "bootc-live-4-4+0-3"),)
PRUNES: Final = (
    Prune("what boots next and what if that fails", 0, [3, 4], entries=GOOD),
    Prune("one is less than that", 1, [3, 4], entries=GOOD),
    Prune("three", 3, [2, 3, 4]),
    Prune("more than there are", 9, [1, 2, 3, 4]),
    Prune("a pinned one", 0, [1, 3, 4], done=(("pin", "1"),)),
    Prune("no longer pinned", 0, [3, 4], done=(("pin", "1"), ("pin", "1", "--unpin"))),
    Prune("a pinned one is one of N", 3, [1, 2, 3, 4], done=(("pin", "1"),)),
    Prune("rolled back", 0, [3, 4], done=(("rollback",),)),
    Prune("rolled back far", 0, [1, 4], done=(("rollback", "--to", "1"),)),
    Prune("the failed one goes", 0, [2, 3], entries=FAILED),
    Prune("the failed one is one of N", 2, [2, 3, 4], entries=FAILED),
    Prune("the running one stays", 0, [1, 3, 4], runs=1),
    Prune("the running one whose entry has failed", 0, [2, 3, 4], entries=FAILED, runs=4),
)


@pytest.fixture(scope="module")
def four(program: ForkedProgram, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Path]]:
    """A machine with four deployments, and a copy of what it has."""
    directory = tmp_path_factory.mktemp("four")
    with machine(directory) as one:
        installed(program, one)
        upgrade(program, one, 2, 3, 4)
        for number in (2, 3):
            one.rename_entry(f"bootc-live-{number}-{number}+3", f"bootc-live-{number}-{number}")
        copied = directory / "copied"
        for name, top in (("disk", one.disk), ("boot", one.boot)):
            shutil.copytree(
                top, copied / name, symlinks=True, ignore=shutil.ignore_patterns("fifo", "null", "lost+found")
            )
        yield one, copied


@pytest.fixture
def again(four: tuple[Machine, Path]) -> Machine:
    """The machine with four deployments, as it was in the beginning."""
    one, copied = four
    one.clear()
    for name, top in (("disk", one.disk), ("boot", one.boot)):
        shutil.copytree(copied / name, top, symlinks=True, dirs_exist_ok=True)
    return one


@pytest.mark.parametrize("row", PRUNES, ids=[row.name for row in PRUNES])
def test_prune(row: Prune, again: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    for old, new in row.entries:
        again.rename_entry(old, new)
    for words in row.done:
        run(program, again, *words)
    before = boots_next(again.disk, again.boot)
    with nullcontext() if row.runs is None else booted(row.runs, again, tmp_path):
        command = ["prune", "--keep", str(row.keep), "--json", *([] if row.runs else again.options)]
        said, more = (json.loads(program.run(*command).good().stdout)["removed"] for _ in range(2))
    assert (numbers(again), more) == (row.left, [])
    assert said == [number for number in range(1, 5) if number not in row.left]
    assert boots_next(again.disk, again.boot) == before
    assert leftovers(again.disk, again.boot) == []
    run(program, again, "verify", "--all")


def test_shared_objects_take_their_room_once(one: Machine, program: ForkedProgram) -> None:
    large = os.urandom(4 * 2**20)

    def used() -> int:
        usage = os.statvfs(one.disk)
        return (usage.f_blocks - usage.f_bfree) * usage.f_frsize

    empty = used()
    one.offer(disk_image(1, shared=large))
    program.run(*one.install).good()
    first = used() - empty
    for number in (2, 3):
        one.offer(disk_image(number, shared=large))
        run(program, one, "upgrade")
    assert used() - empty < 1.4 * first
    # The last one that has it takes it along.
    upgrade(program, one, 4, 5)
    run(program, one, "health")
    run(program, one, "prune", "--keep", "0")
    assert used() - empty < first / 2


def test_numbers_are_never_used_again(one: Machine, program: ForkedProgram) -> None:
    installed(program, one)
    upgrade(program, one, 2, 3)
    run(program, one, "rollback", "--to", "1")
    one.rename_entry("bootc-live-3-3+3", "bootc-live-3-3+0-3")
    run(program, one, "prune", "--keep", "0")
    assert numbers(one) == [1, 2]
    upgrade(program, one, 4)
    assert numbers(one) == [1, 2, 4]


@dataclass(frozen=True)
class Rollback:
    """What is done with the machine of four deployments, and which ones boot next after each."""

    name: str
    done: tuple[tuple[str, ...], ...]
    nexts: tuple[int, ...]
    entries: tuple[tuple[str, str], ...] = ()
    order: str = ""


ROLLBACKS: Final = (
    Rollback("once", (("rollback",),), (3,), GOOD),
    Rollback("twice is back again", (("rollback",), ("rollback",)), (3, 4), GOOD),
    Rollback("to the one that boots next", (("rollback", "--to", "4"),), (4,), GOOD, "bootc-live-4-4"),
    Rollback("to an older one", (("rollback", "--to", "1"), ("rollback",)), (1, 4), GOOD),
    Rollback("from a failed one", (("rollback",),), (2,), FAILED),
    Rollback(
        "a new one is counted when it is chosen again", (("rollback",), ("rollback",)), (3, 4), (), "bootc-live-6-4+3"
    ),
    Rollback("a failed one only by its number", (("rollback", "--to", "4"),), (4,), FAILED, "bootc-live-5-4+3"),
    Rollback("after prune", (("prune", "--keep", "0"), ("rollback",)), (4, 3), GOOD),
    Rollback("is not undone by an upgrade", (("rollback",), ("upgrade",)), (3, 3), GOOD),
    Rollback("is undone by another one", (("rollback",), ("rollback",), ("upgrade",)), (3, 4, 4), GOOD),
    Rollback("back and forth", (("rollback",), ("rollback",), ("rollback",), ("upgrade",)), (3, 4, 3, 3), GOOD),
    Rollback("health ends the count", (("health",), ("rollback",), ("rollback",)), (4, 3, 4), (), "bootc-live-6-4"),
)


@pytest.mark.parametrize("row", ROLLBACKS, ids=[row.name for row in ROLLBACKS])
def test_rollback(row: Rollback, again: Machine, program: ForkedProgram) -> None:
    for old, new in row.entries:
        again.rename_entry(old, new)
    found = []
    for words in row.done:
        run(program, again, *words)
        after = boots_next(again.disk, again.boot)
        assert after is not None
        found.append(after.deployment)
    assert tuple(found) == row.nexts
    if row.order:
        assert row.order in again.entries


def test_rollback_does_not_choose_a_failed_one(one: Machine, program: ForkedProgram) -> None:
    installed(program, one)
    upgrade(program, one, 2)
    one.rename_entry("bootc-live-2-2+3", "bootc-live-2-2+0-3")
    program.run("rollback", *one.options).error("there is no other deployment to go back to")
    assert boots_next(one.disk, one.boot) == Next(1, 1)


@pytest.mark.parametrize("bootloader", ["systemd-boot", "grub"])
def test_to_disk(bootloader: str, program: ForkedProgram, tmp_path: Path) -> None:
    """What is in a file with a disk is what is on file systems that are mounted."""
    source, disk = write_archive(tmp_path / "image.oci", disk_image(1)), tmp_path / "disk"
    command = ["install", "to-disk", str(disk), "--size", "1G", "--source", str(source), "--bootloader", bootloader]
    program.run(*command).good()
    table = json.loads(tool("sfdisk", "-J", disk))["partitiontable"]["partitions"]
    esp, root = (row["start"] * 512 for row in table)
    boot = tmp_path / "boot"
    boot.mkdir()
    tool("mcopy", "-s", "-i", f"{disk}@@{esp}", "::*", boot)
    with loop(disk, "--offset", str(root)) as device, mounted(device, tmp_path / "root") as where:
        assert boots_next(where, boot) == Next(1, 1)
        options = ("--disk", where, "--boot", boot)
        assert "boots next, good" in program.run("status", *options).good().stdout
        program.run("verify", *options).good()
        settings = json.loads((where / "bootc-live/machine.json").read_text())
        assert settings["root"] == f"UUID={probed(device)['ID_FS_UUID']}"
        assert settings["boot"] == f"PARTUUID={table[0]['uuid'].lower()}"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--source", "docker://127.0.0.1:1/os/none"), "127.0.0.1:1"),
        (("--source", "{archive}", "--key", "{key}"), "signature"),
        (("--source", "{archive}", "--sb-key", "{key}", "--sb-cert", "{key}", "--bootloader", "grub"), "GRUB"),
    ],
)
def test_a_disk_is_wiped_only_for_an_image_that_can_be_used(
    options: tuple[str, ...], told: str, tmp_path: Path, program: ForkedProgram
) -> None:
    disk, key = tmp_path / "disk", tmp_path / "key.pub"
    disk.write_bytes(b"what is on it" * 1000)
    os.truncate(disk, 2**30)
    tool("openssl", "pkey", "-in", Key(tmp_path).private, "-pubout", "-out", key)
    names = {"archive": write_archive(tmp_path / "image.oci", disk_image(1)), "key": key}
    words = [option.format(**names) for option in options]
    before = disk.read_bytes()[: 2**20]
    program.run("install", "to-disk", disk, "--wipe", *words).error(told)
    assert disk.read_bytes()[: 2**20] == before
