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
from tests.lib.disks import run as tool
from tests.lib.forked_program import ForkedProgram


class Saved:
    """A machine, and a copy of what its file systems have."""

    def __init__(self, one: Machine, directory: Path) -> None:
        self._machine, self._copied = one, directory / "copied"
        self._copied.mkdir()
        for top in (one.disk, one.boot):
            tool("cp", "-a", top, self._copied)

    def again(self) -> Machine:
        """The machine as it was then."""
        one = self._machine
        one.clear()
        for top in (one.disk, one.boot):
            tool("cp", "-a", f"{self._copied / top.name}/.", top)
        return one


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Machine]:
    """Empty file systems, and no image yet: ``from tests.lib.disk_fixtures import empty as one``."""
    with machine(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def ready(program: ForkedProgram, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    """A machine with an image on it."""
    directory = tmp_path_factory.mktemp("ready")
    with machine(directory) as one:
        one.offer(disk_image(1))
        program.run(*one.install).good()
        yield Saved(one, directory)


@pytest.fixture
def one(ready: Saved) -> Machine:
    """The machine as it was in the beginning; newer images are there."""
    made = ready.again()
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
