"""What may be wrong on a disk is found, said in one line, and repaired from a registry that still has the images."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from bootc_live.formats.fsverity import verity_digest
from tests.lib.disk_machine import SHARED, Machine, Next, boots_next, disk_image, leftovers, machine
from tests.lib.disks import run
from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import write_archive
from tests.lib.program import Ended
from tests.lib.registry import Registry

LEFT: Final = 4
NAME: Final = "os/fsck:latest"
# ioctl_fs(4): the number of a file's block on the device.
FIBMAP, BLOCK = 1, 4096


@pytest.fixture(scope="module")
def ready(program: ForkedProgram, plain: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A machine with two deployments, the older of an image that no tag names, and a copy of what it has."""
    directory = tmp_path_factory.mktemp("ready")
    with machine(directory) as one:
        for number, command in ((1, [*one.install[:-1], plain.source(NAME), "--unsecure"]), (2, ["upgrade"])):
            archive = write_archive(directory / f"{number}.oci", disk_image(number))
            plain.push(f"oci-archive:{archive}", NAME)
            program.run(*command, *(one.options if number > 1 else ())).good()
        program.run("health", *one.options).good()
        copied = directory / "copied"
        copied.mkdir()
        for top in (one.disk, one.boot):
            run("cp", "-a", top, copied)
        yield one, copied


@pytest.fixture
def one(ready: tuple[Machine, Path]) -> Machine:
    """The machine as it was in the beginning."""
    made, copied = ready
    made.clear()
    for top in (made.disk, made.boot):
        run("cp", "-a", f"{copied / top.name}/.", top)
    return made


def fsck(program: ForkedProgram, one: Machine, *options: str) -> Ended:
    return program.run("fsck", *one.options, *options)


def object_of(one: Machine, content: bytes) -> Path:
    digest = verity_digest(content)
    return one.store / "objects" / digest[:2] / digest[2:]


def first(one: Machine) -> Path:
    """An object of the first deployment alone."""
    return object_of(one, b"1\n" * 300)


def metadata(one: Machine, number: int) -> Path:
    record = json.loads((one.deployments / f"{number}/deployment.json").read_text())
    return one.store / f"images/{record['root']}.erofs"


def kernel(one: Machine, number: int) -> Path:
    entry = one.boot / f"loader/entries/bootc-live-{number}-{number}.conf"
    lines = dict(line.split(" ", 1) for line in entry.read_text().splitlines())
    return Path(f"{one.boot}{lines['linux']}")


def flip(path: Path) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def put(path: Path, content: str = "something") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def field(name: str, value: object, one: Machine) -> None:
    """Change one field of a record."""
    path = one.deployments / "1/deployment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))


def fifo(one: Machine) -> None:
    path = one.deployments / "1/deployment.json"
    path.unlink()
    os.mkfifo(path)


def directory_entry(one: Machine) -> None:
    (one.boot / "loader/entries/bootc-live-99-99.conf").mkdir()


@dataclass(frozen=True)
class Row:
    """What is done to a machine, what is said of it, and what boots after the repair, which leaves something or not.

    ``lines`` are as many as are said: a kernel that no entry names is a fault, too.
    """

    name: str
    done: Callable[[Machine], object]
    said: str
    left: int = 0
    lines: int = 1
    boots: Next | None = Next(2, 2)  # noqa: RUF009 # it never changes


ENTRY, OLD_ENTRY = (f"loader/entries/bootc-live-{number}-{number}.conf" for number in (2, 1))
ROWS: Final = (
    Row("an object of all was changed", lambda one: flip(object_of(one, SHARED)), "has changed (deployment 1, 2)"),
    Row("an object is shorter", lambda one: os.truncate(object_of(one, SHARED), 9), "its content has changed"),
    Row("an object of one is missing", lambda one: first(one).unlink(), "No such file or directory (deployment 1)"),
    Row("an object that nobody needs", lambda one: put(one.store / f"objects/ab/{'0' * 62}"), "no deployment needs it"),
    Row("not an object", lambda one: put(one.store / "objects/ab/text"), "objects/ab/text: it is no object", left=True),
    Row("metadata was changed", lambda one: flip(metadata(one, 2)), "it was changed, or is damaged (deployment 2)"),
    Row("metadata is missing", lambda one: metadata(one, 1).unlink(), "No such file or directory (deployment 1)"),
    Row("an interrupted write", lambda one: put(one.store / "new.12/ab"), "/bootc-live/new.12: an interrupted run"),
    Row(
        "an interrupted layer", lambda one: put(one.store / "layers/x.new"), "/bootc-live/layers/x.new: an interrupted"
    ),
    Row("interrupted settings", lambda one: put(one.store / "machine.json.new"), "/bootc-live/machine.json.new: an"),
    Row(
        "an unfinished deployment", lambda one: put(one.deployments / ".new/etc/a"), "/deployments/.new: an interrupted"
    ),
    Row(
        "an unfinished /etc", lambda one: put(one.deployments / "1/etc.new/a"), "/deployments/1/etc.new: an interrupted"
    ),
    Row("a deployment half gone", lambda one: put(one.deployments / ".gone-9/a"), ".gone-9/a: an interrupted run"),
    Row(
        "a file of the boot partition", lambda one: put(one.boot / f"{ENTRY}.new"), f"/{ENTRY}.new: an interrupted run"
    ),
    Row(
        "an entry that was replaced",
        lambda one: shutil.copy(one.boot / ENTRY, one.boot / ENTRY.replace("2-2", "1-2")),
        "bootc-live-1-2.conf: an interrupted run",
    ),
    Row(
        "a kernel of nobody",
        lambda one: put(one.boot / f"bootc-live/{'0' * 64}/vmlinuz"),
        f"{'0' * 64}: an interrupted",
    ),
    Row("a kernel was changed", lambda one: flip(kernel(one, 2)), "it was changed (deployment 2)"),
    Row("an old kernel is missing", lambda one: shutil.rmtree(kernel(one, 1).parent), "it was changed (deployment 1)"),
    Row(
        "a record is empty",
        lambda one: put(one.deployments / "1/deployment.json", ""),
        "deployment 1: its record is damaged, so that it cannot boot; keep what you need of its /etc; bootc-live prune",
        left=True,
    ),
    Row("a record names a path", lambda one: field("root", "../../../etc/passwd", one), "record is damaged", left=True),
    Row(
        "a pinned record is damaged",
        lambda one: (put(one.deployments / "1/pinned"), put(one.deployments / "1/deployment.json", "")),
        "bootc-live pin --unpin 1 and bootc-live prune removes it",
        left=True,
    ),
    Row(
        "all records are damaged",
        lambda one: [put(one.deployments / f"{number}/deployment.json", "") for number in (1, 2)],
        "deployment 2: its record is damaged, so that it cannot boot; keep what you need of its /etc, and install",
        left=2,
        boots=None,
        lines=2,
    ),
    Row("a record is a FIFO", fifo, "deployment 1: its record is damaged", left=True),
    Row(
        "a deployment's other spelling",
        lambda one: (one.deployments / "007").mkdir(),
        "/deployments/007: it",
        left=True,
    ),
    Row("a huge number", lambda one: (one.deployments / ("9" * 26)).mkdir(), f"{'9' * 26}: it is nothing", left=True),
    Row("marks are a file", lambda one: put(one.store / "left"), "/bootc-live/left: it is nothing", left=True),
    Row("a mark is a directory", lambda one: put(one.store / "failed/a/b"), "/bootc-live/failed/a: it", left=True),
    Row(
        "a directory as entry",
        directory_entry,
        "/loader/entries/bootc-live-99-99.conf: it is nothing",
        left=True,
        boots=None,
    ),
    Row(
        "an old entry is empty",
        lambda one: put(one.boot / OLD_ENTRY, ""),
        "boot partition: bootc-live-1-1: it is damaged (deployment 1)",
    ),
    Row("an old entry is rubbish", lambda one: put(one.boot / OLD_ENTRY), "it is damaged (deployment 1)"),
    Row("a new entry is rubbish", lambda one: put(one.boot / ENTRY), "it is damaged (deployment 2)"),
    Row("a new entry is empty", lambda one: put(one.boot / ENTRY, ""), "it is damaged (deployment 2)"),
    Row(
        "all entries are empty",
        lambda one: [put(one.boot / path, "") for path in (ENTRY, OLD_ENTRY)],
        "it is damaged (deployment 2)",
        lines=2,
    ),
    Row("no such deployment", lambda one: shutil.rmtree(one.deployments / "1"), "there is no deployment 1, which it"),
    Row("no boot entry", lambda one: (one.boot / OLD_ENTRY).unlink(), "deployment 1: it has no boot entry", lines=2),
    Row(
        "no boot entry, and pinned",
        lambda one: shutil.move(one.boot / OLD_ENTRY, one.deployments / "1/pinned"),
        "deployment 1: it has no boot entry",
        left=True,
        lines=2,
    ),
    Row(
        "an interrupted upgrade",
        lambda one: (one.boot / ENTRY).unlink(),
        "deployment 2: it has no boot entry",
        lines=2,
        boots=Next(1, 1),
    ),
    Row("no /etc", lambda one: shutil.rmtree(one.deployments / "1/etc"), "deployment 1: it has no /etc", left=True),
    Row(
        "an entry of another root",
        lambda one: edit(one.boot / OLD_ENTRY, metadata(one, 1).stem, "0" * 64),
        "bootc-live-1-1: it starts another root than deployment 1 is (deployment 1)",
    ),
    Row(
        "a record of another root",
        lambda one: field("root", "0" * 64, one),
        "bootc-live-1-1: it starts another root than deployment 1 is (deployment 1)",
        left=2,
        lines=2,
    ),
    Row(
        "no entries",
        lambda one: shutil.rmtree(one.boot / "loader/entries"),
        "it has no boot entry, so that nothing boots",
        left=True,
        boots=None,
    ),
)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_fault(row: Row, one: Machine, program: ForkedProgram) -> None:
    row.done(one)
    found = fsck(program, one)
    assert (found.status, row.said in found.stdout) == (LEFT, True), found.stdout + found.stderr
    assert len(found.stdout.splitlines()) == row.lines
    done = fsck(program, one, "--repair")
    assert done.status == (LEFT if row.left else 0), done.stdout + done.stderr
    assert done.stdout.count("repaired: ") == row.lines - row.left
    again = fsck(program, one)
    assert again.status == done.status
    assert ("nothing is wrong with " in again.stdout) == (not row.left)
    if row.boots is not None:
        assert boots_next(one.disk, one.boot) == row.boots


def test_all_at_once(one: Machine, program: ForkedProgram) -> None:
    """Nothing is said twice, and nothing is left that nobody needs; which objects wrong metadata needs is not known."""
    for path in (object_of(one, SHARED), first(one), metadata(one, 2), kernel(one, 1)):
        flip(path)
    put(one.store / "new.1/a")
    faults = json.loads(fsck(program, one, "--json").stdout)
    assert (faults["deployments"], [fault["repaired"] for fault in faults["faults"]]) == (2, [False] * 5)
    assert sorted(fault["deployments"] for fault in faults["faults"]) == [[], [1], [1], [1], [2]]
    assert len({fault["where"] for fault in faults["faults"]}) == 5
    done = json.loads(fsck(program, one, "--repair", "--json").stdout)
    assert [fault["repaired"] for fault in done["faults"]] == [True] * 5
    assert leftovers(one.disk, one.boot) == []
    assert boots_next(one.disk, one.boot) == Next(2, 2)
    program.run("rollback", *one.options).good()
    assert boots_next(one.disk, one.boot) == Next(1, 1)


def test_damage_that_memory_hides(one: Machine, program: ForkedProgram) -> None:
    """The disk has another byte than what the kernel remembers of a file that was read before."""
    path = object_of(one, SHARED)
    content = path.read_bytes()
    with path.open("rb") as file:
        os.fsync(file)
        block = array("i", [0])
        fcntl.ioctl(file, FIBMAP, block)
    with one.files[0].open("r+b") as disk:
        disk.seek(block[0] * BLOCK)
        disk.write(bytes([content[0] ^ 1]))
    assert path.read_bytes() == content
    found = fsck(program, one)
    assert (found.status, "its content has changed (deployment 1, 2)" in found.stdout) == (LEFT, True)
    assert fsck(program, one, "--repair").status == 0
    assert path.read_bytes() == content


def test_source_that_has_it_no_more(one: Machine, program: ForkedProgram, plain: Registry) -> None:
    """What the repair cannot get stays as it is; the rest is repaired."""
    for path in (one.store / "machine.json", *one.deployments.glob("*/deployment.json")):
        edit(path, plain.source(NAME), "docker://127.0.0.1:1/os/none")
    wrong = object_of(one, SHARED)
    flip(wrong)
    put(one.store / "new.1/a")
    before = wrong.read_bytes()
    done = fsck(program, one, "--repair")
    assert done.status == LEFT
    for number in (1, 2):
        assert f"deployment {number} cannot be repaired: " in done.stderr
    assert "127.0.0.1:1" in done.stderr
    assert [line.startswith("repaired") for line in done.stdout.splitlines()] == [True, False]
    assert wrong.read_bytes() == before


def test_archive_on_the_machine(one: Machine, program: ForkedProgram) -> None:
    """The source of the machine is another one now, but the deployment's has it still."""
    one.clear()
    one.offer(disk_image(1))
    program.run(*one.install).good()
    other = one.source.with_name("other.oci")
    write_archive(other, disk_image(2))
    program.run("switch", other, *one.options).good()
    flip(first(one))
    assert fsck(program, one, "--repair").status == 0
    flip(object_of(one, b"2\n" * 300))
    assert fsck(program, one, "--repair").status == 0
    program.run("verify", "--all", *one.options).good()


def test_pinned_one_is_never_removed(one: Machine, program: ForkedProgram) -> None:
    """What is lost with its record is not its /etc."""
    program.run("pin", "1", *one.options).good()
    put(one.deployments / "1/deployment.json", "")
    program.run("prune", "--keep", "0", *one.options).good()
    assert (one.deployments / "1/etc/number").exists()
    program.run("pin", "--unpin", "1", *one.options).good()
    program.run("prune", "--keep", "0", *one.options).good()
    assert not (one.deployments / "1").exists()
    assert leftovers(one.disk, one.boot) == []


def test_rollback_without_marks(one: Machine, program: ForkedProgram) -> None:
    for name in ("left", "failed"):
        put(one.store / name)
    assert "cannot be written to the disk" in program.run("rollback", *one.options).good().stderr
    assert boots_next(one.disk, one.boot) == Next(1, 1)
    program.run("health", *one.options).good()
    program.run("upgrade", *one.options).good()
    assert boots_next(one.disk, one.boot) == Next(2, 3)
