"""A machine with an image on it, for tests of what may go wrong: ``from tests.lib.disk_fixtures import one, ready``."""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lib.disk_machine import Machine, Next, boots_next, disk_image, leftovers, machine
from tests.lib.disks import run
from tests.lib.forked_program import ForkedProgram


@pytest.fixture(scope="module")
def ready(program: ForkedProgram, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Path]]:
    """A machine with an image on it, and a copy of what it has."""
    directory = tmp_path_factory.mktemp("ready")
    with machine(directory) as one:
        one.offer(disk_image(1))
        program.run(*one.install).good()
        copied = directory / "copied"
        copied.mkdir()
        for top in (one.disk, one.boot):
            run("cp", "-a", top, copied)
        yield one, copied


@pytest.fixture
def one(ready: tuple[Machine, Path]) -> Machine:
    """The machine as it was in the beginning; newer images are there."""
    made, copied = ready
    made.clear()
    for top in (made.disk, made.boot):
        run("cp", "-a", f"{copied / top.name}/.", top)
    made.offer(disk_image(2))
    return made


def state(one: Machine) -> dict[str, str]:
    """All files with their contents, but for objects, and for numbers that are not used again."""
    found = {}
    for top in (one.disk, one.boot):
        for path in sorted(top.rglob("*")):
            kind = path.lstat().st_mode
            if not re.search(r"/objects|/images|/layers|/\.gone-", str(path)):
                content = path.read_bytes() if stat.S_ISREG(kind) else b""
                found[str(path)] = f"{kind:o} {hashlib.sha256(content).hexdigest()}"
    return found


@contextmanager
def unchanged(one: Machine, boots: Next = Next(1, 1)) -> Iterator[None]:  # noqa: B008 # it never changes
    """Raises AssertionError if the block changes what boots, or leaves something unfinished."""
    before = state(one)
    yield
    assert state(one) == before
    assert [
        path for path in leftovers(one.disk, one.boot) if not re.search("/(objects|images|layers)/[^.]*", path)
    ] == []
    assert boots_next(one.disk, one.boot) == boots
