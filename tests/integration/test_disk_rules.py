"""Which deployment boots, which are kept, what an upgrade takes over: without booting any of them."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.lib.archive_members import write_members
from tests.lib.disk_machine import Machine, Next, booted, boots_next, disk_image, leftovers, machine
from tests.lib.disks import loop, mounted, probed
from tests.lib.disks import run as tool
from tests.lib.docker_writer import Saved, docker_members
from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import write_archive
from tests.lib.signing import Key
from tests.lib.tar_writer import file, layer


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Machine]:
    """Empty file systems."""
    with machine(tmp_path) as made:
        yield made


def run(program: ForkedProgram, one: Machine, *words: str | Path) -> str:
    """Run a verb on a machine, and return what it printed."""
    return program.run(*words, *one.options).good().stdout


def upgrade(program: ForkedProgram, one: Machine, *numbers: int) -> None:
    """Upgrade to images with these numbers."""
    for number in numbers:
        one.offer(disk_image(number))
        run(program, one, "upgrade")


def installed(program: ForkedProgram, one: Machine, *options: str) -> None:
    """Install the image number 1."""
    one.offer(disk_image(1))
    program.run(*one.install, *options).good()


def numbers(one: Machine) -> list[int]:
    """Return the deployments that there are."""
    return sorted(int(path.name) for path in one.deployments.iterdir() if path.name.isdigit())


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
    Rollback("is undone by an upgrade", (("rollback",), ("upgrade",)), (3, 5), GOOD),
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


def test_upgrade_after_rollback(one: Machine, program: ForkedProgram) -> None:
    installed(program, one)
    upgrade(program, one, 2)
    (one.deployments / "1/etc/mine").write_text("of the first\n")
    run(program, one, "rollback")
    before = set((one.store / "objects").glob("*/*"))
    run(program, one, "upgrade")
    assert boots_next(one.disk, one.boot) == Next(2, 3)
    # /etc is that of the deployment that it was made from.
    assert (one.deployments / "3/etc/mine").read_text() == "of the first\n"
    assert set((one.store / "objects").glob("*/*")) == before


def test_failed_image_is_not_tried_again(one: Machine, program: ForkedProgram) -> None:
    installed(program, one)
    upgrade(program, one, 2)
    one.rename_entry("bootc-live-2-2+3", "bootc-live-2-2+0-3")
    assert "has failed to boot" in run(program, one, "upgrade")
    assert "has failed to boot" in run(program, one, "upgrade", "--check")
    assert numbers(one) == [1, 2]
    upgrade(program, one, 3)
    run(program, one, "prune", "--keep", "0")
    assert numbers(one) == [1, 3]
    one.offer(disk_image(2))
    assert "has failed to boot" in run(program, one, "upgrade")
    # Whoever says so may have it.
    run(program, one, "switch", one.source)
    assert boots_next(one.disk, one.boot) == Next(2, 4)
    run(program, one, "health")
    upgrade(program, one, 5, 2)
    assert boots_next(one.disk, one.boot) == Next(2, 6)


def test_finalize(one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    installed(program, one)
    etc, made = one.deployments / "1/etc", one.deployments / "2/etc"
    (etc / "early").write_text("before the upgrade\n")
    with booted(1, one, tmp_path):
        assert "nothing to do" in program.run("upgrade", "--finalize").good().stderr
        one.offer(disk_image(2))
        program.run("upgrade").good()
        for text in ("one\n", "two\n"):
            (etc / "late").write_text(text)
            (etc / "early").unlink(missing_ok=True)
            program.run("upgrade", "--finalize").good()
            assert (made / "late").read_text() == text
            assert not (made / "early").exists()
            assert (made / "number").read_text() == "2\n"
            assert stat.S_IMODE(made.stat().st_mode) == 0o751
        assert leftovers(one.disk, one.boot) == []
        assert boots_next(one.disk, one.boot) == Next(2, 2)
        # It was started, and has its own /etc since.
        one.rename_entry("bootc-live-2-2+3", "bootc-live-2-2+2-1")
        (made / "own").write_text("of the second\n")
        assert "nothing to do" in program.run("upgrade", "--finalize").good().stderr
    with booted(2, one, tmp_path):
        program.run("health").good()
        program.run("rollback").good()
        assert "nothing to do" in program.run("upgrade", "--finalize").good().stderr
    assert (made / "own").read_text() == "of the second\n"
    assert not (etc / "own").exists()


def test_switch_keeps_the_settings(one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    installed(program, one, "--karg", "quiet", "--karg", "console=ttyS0", "--state", "etc")
    other = tmp_path / "other.oci"
    one.offer(disk_image(2))
    one.source.rename(other)
    with booted(1, one, tmp_path):
        program.run("switch", other).good()
    lines = {path.stem: path.read_text() for path in (one.boot / "loader/entries").iterdir()}
    options = [line for line in lines["bootc-live-2-2+3"].splitlines() if line.startswith("options ")]
    assert " quiet console=ttyS0 root=bootc-live:deployment:UUID=" in options[0]
    assert "bootc.disk.state=etc" in options[0]
    # An argument for one boot is none of the machine's.
    assert "once" not in "".join(lines.values())
    # The new source is where newer images come from.
    one.offer(disk_image(9))
    assert "no change" in run(program, one, "upgrade", "--check")
    status = json.loads(run(program, one, "status", "--json"))["disk"]
    assert (status["source"], status["state"]) == (str(other), "etc")


def test_docker_archives(one: Machine, program: ForkedProgram) -> None:
    def offer(number: int) -> None:
        image = Saved([made.tar for made in disk_image(number).layers])
        write_members(one.source, docker_members("save", image))

    offer(1)
    program.run(*one.install).good()
    offer(2)
    assert program.run("upgrade", "--check", *one.options).status == 77
    run(program, one, "upgrade")
    assert boots_next(one.disk, one.boot) == Next(2, 2)
    assert "no change" in run(program, one, "upgrade")


def test_layer_that_is_there_is_not_written_again(one: Machine, program: ForkedProgram) -> None:
    installed(program, one)
    one.offer(disk_image(1, layer(file("usr/more", b"more " * 200))))
    before = {path: path.stat().st_ino for path in (one.store / "objects").glob("*/*")}
    run(program, one, "upgrade")
    after = {path: path.stat().st_ino for path in (one.store / "objects").glob("*/*")}
    assert before.items() < after.items()
    assert len(after) == len(before) + 1


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


def test_nothing_calls_it_good(one: Machine, program: ForkedProgram) -> None:
    """The boot loader would go back some time, so that has to be said."""
    told = "the image has no bootc-live-health.service: after an upgrade, the boot loader goes back"
    one.offer(disk_image(1))
    assert told in program.run(*one.install).good().stderr
    one.offer(disk_image(2))
    assert told in program.run("upgrade", *one.options).good().stderr
    unit = layer(file("usr/lib/systemd/system/bootc-live-health.service", b""))
    one.offer(disk_image(3, unit))
    assert "bootc-live-health.service" not in program.run("upgrade", *one.options).good().stderr
