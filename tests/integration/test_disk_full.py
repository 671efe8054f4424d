"""Full file systems at every step of an installation and of an upgrade: an error, and nothing half-made."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.lib.archive_servers import Files, archive_server
from tests.lib.disk_fixtures import Saved, numbers, one, ready, run, state
from tests.lib.disk_machine import Machine, Next, boots_next, disk_image, kernel, leftovers, machine
from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import Image, write_archive
from tests.lib.tar_writer import file, layer

__all__ = ["one", "ready"]


@contextmanager
def filled(where: Path, left: int) -> Iterator[None]:
    """Let a file system have only so many free bytes."""
    ballast = where / "ballast"
    usage = os.statvfs(where)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, usage.f_bavail * usage.f_frsize - left)
    try:
        yield
    finally:
        ballast.unlink()


ROOMS: Final = tuple(kib * 1024 for kib in (8, 32, 64, 96, 128, 192, 256, 384, 512, 1024, 1536, 4096))


@pytest.mark.parametrize("place", ["disk", "boot"])
def test_full(place: str, one: Machine, program: ForkedProgram) -> None:
    statuses = []
    for left in ROOMS:
        before = boots_next(one.disk, one.boot)
        with filled(getattr(one, place), left):
            there = state(one)
            ended = program.run("upgrade", *one.options)
            if ended.status:
                ended.error()
                assert re.search("full|no space|free, but", ended.stderr, re.IGNORECASE), ended.stderr
                assert state(one) == there, left
                assert boots_next(one.disk, one.boot) == before
        statuses.append(ended.status)
    assert statuses == sorted(statuses, reverse=True), statuses
    assert (statuses[0], statuses[-1]) == (1, 0)
    after = boots_next(one.disk, one.boot)
    assert after is not None
    assert after.image == 2
    program.run("prune", "--keep", "2", *one.options).good()
    assert leftovers(one.disk, one.boot) == []


@pytest.mark.parametrize("place", ["disk", "boot"])
def test_full_at_installation(place: str, one: Machine, program: ForkedProgram) -> None:
    one.clear()
    statuses = []
    for left in ROOMS:
        with filled(getattr(one, place), left):
            ended = program.run(*one.install)
        statuses.append(ended.status)
        if ended.status == 0:
            break
        ended.error()
        assert re.search("full|no space|free, but", ended.stderr, re.IGNORECASE), ended.stderr
        assert boots_next(one.disk, one.boot) is None
    assert len(statuses) > 1
    assert statuses[-1] == 0
    after = boots_next(one.disk, one.boot)
    assert after is not None
    assert after.image == 2
    program.run("prune", "--keep", "2", *one.options).good()
    assert leftovers(one.disk, one.boot) == []


LARGE: Final = 8 * 2**20
ROOM_TOLD: Final = "deployments removed to make room: "


def large(number: int, *more: bytes, size: int = LARGE) -> Image:
    """An image with a large file of its own."""
    return disk_image(number, *more, shared=random.Random(number).randbytes(size))


def files_of(one: Machine) -> set[Path]:
    """All files of both file systems."""
    return {path for top in (one.disk, one.boot) for path in top.rglob("*")}


@pytest.fixture(scope="module")
def kept(program: ForkedProgram, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    """A machine with three deployments that are good, each with a large file and a kernel of its own."""
    directory = tmp_path_factory.mktemp("three")
    with machine(directory, size=64 * 2**20) as made:
        made.offer(large(1))
        program.run(*made.install).good()
        for number in (2, 3):
            made.offer(large(number))
            run(program, made, "upgrade")
            run(program, made, "health")
        yield Saved(made, directory)


@pytest.fixture
def three(kept: Saved) -> Machine:
    """That machine as it was in the beginning."""
    return kept.again()


@dataclass(frozen=True)
class Tight:
    """Where so many bytes less are free than a fourth deployment needs, and the deployments that are there then.

    ``done`` is what is done before, ``warned`` what is told beside.
    """

    name: str
    place: str
    missing: int
    left: list[int]
    done: tuple[tuple[str, ...], ...] = ()
    error: str | None = None
    warned: str = ""


BOOT_NEED: Final = 2**20 + -(-len(kernel(4)) // 4096) * 4096 + 4096
TIGHT: Final = (
    Tight("enough on the disk", "disk", -(2**20), [1, 2, 3, 4]),
    Tight("too little on the disk", "disk", 2**20, [2, 3, 4]),
    Tight("nothing may go on the disk", "disk", 2**20, [1, 2, 3], (("pin", "1"),), "no space left", "needs up to"),
    Tight("enough for the boot loader", "boot", -(2**16), [1, 2, 3, 4]),
    Tight("too little for the boot loader", "boot", 2**14, [2, 3, 4]),
    Tight("nothing may go for the boot loader", "boot", 2**14, [1, 2, 3], (("pin", "1"),), "the boot partition"),
    # What boots next and the only ones that are good.
    Tight("rolled back", "boot", 2**14, [1, 3, 4], (("rollback", "--to", "1"),)),
)


@pytest.mark.parametrize("row", TIGHT, ids=[row.name for row in TIGHT])
def test_makes_room(row: Tight, three: Machine, program: ForkedProgram) -> None:
    for words in row.done:
        run(program, three, *words)
    three.offer(large(4))
    before, need = boots_next(three.disk, three.boot), LARGE if row.place == "disk" else BOOT_NEED
    with filled(getattr(three, row.place), need - row.missing):
        ended = program.run("upgrade", *three.options)
    if row.error is None:
        assert (ROOM_TOLD in ended.good().stderr) == (numbers(three) != [1, 2, 3, 4])
        after = boots_next(three.disk, three.boot)
        assert (after and after.image) == 4
    else:
        ended.error(row.error)
        assert boots_next(three.disk, three.boot) == before
    assert row.warned in ended.stderr
    assert numbers(three) == row.left
    run(program, three, "verify", "--all")
    run(program, three, "prune", "--keep", "9")
    assert leftovers(three.disk, three.boot) == []


def test_refused_before_anything_is_fetched(three: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    """What cannot fit on any account costs no transfer, nor what is there."""
    (tmp_path / "served").mkdir()
    write_archive(tmp_path / "served/os.oci", large(5, size=4 * LARGE))
    with archive_server(Files(tmp_path / "served")) as server, filled(three.disk, 2**20):
        said = program.run("switch", server.url("/os.oci"), *three.options).error("the disk has", "MiB free, but")
        assert "needs" in said
        assert server.sent < 2**20
    assert boots_next(three.disk, three.boot) == Next(3, 3)
    assert numbers(three) == [2, 3]


def test_kernel_that_is_there_needs_no_space(three: Machine, program: ForkedProgram) -> None:
    three.offer(disk_image(3, layer(file("usr/more", b"more"))))
    with filled(three.boot, BOOT_NEED - 2**14):
        run(program, three, "upgrade")
    assert numbers(three) == [1, 2, 3, 4]


def test_one_that_is_good_stays(three: Machine, program: ForkedProgram) -> None:
    """Of two on trial, none may be good."""
    for number in (4, 5):
        three.offer(disk_image(number))
        run(program, three, "upgrade")
    run(program, three, "prune", "--keep", "0")
    assert numbers(three) == [3, 4, 5]


def test_fits_by_sharing_alone(three: Machine, program: ForkedProgram) -> None:
    """How much is shared is known when all is there: too late for less than an error, but nothing is half-made."""
    same, more = random.Random(3).randbytes(LARGE), random.Random(9).randbytes(2 * 2**20)
    three.offer(large(3, layer(file("usr/same", same), file("usr/more", more))))
    run(program, three, "pin", "1")
    before, there = boots_next(three.disk, three.boot), files_of(three)
    for left in (2**18, 2**20, 2**21):
        with filled(three.disk, left):
            ended = program.run("upgrade", *three.options)
        ended.error("no space left")
        assert "needs up to" in ended.stderr
        assert (boots_next(three.disk, three.boot), numbers(three)) == (before, [1, 2, 3])
        assert files_of(three) == there
        assert leftovers(three.disk, three.boot) == []
    run(program, three, "fsck")
    with filled(three.disk, 4 * 2**20):
        run(program, three, "upgrade")
    assert (boots_next(three.disk, three.boot), numbers(three)) == (Next(3, 4), [1, 2, 3, 4])
    run(program, three, "verify", "--all")
