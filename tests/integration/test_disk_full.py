"""Full file systems at every step of an installation and of an upgrade: an error, and nothing half-made."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.lib.disk_fixtures import one, ready, state
from tests.lib.disk_machine import Machine, boots_next, leftovers
from tests.lib.forked_program import ForkedProgram

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
                assert re.search("full|no space|free, but", ended.stderr), ended.stderr
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
        assert re.search("full|no space|free, but", ended.stderr), ended.stderr
        assert boots_next(one.disk, one.boot) is None
    assert len(statuses) > 1
    assert statuses[-1] == 0
    after = boots_next(one.disk, one.boot)
    assert after is not None
    assert after.image == 2
    program.run("prune", "--keep", "2", *one.options).good()
    assert leftovers(one.disk, one.boot) == []
