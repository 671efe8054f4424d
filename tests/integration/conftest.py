"""What the tests that run the real thing share. They run as root in namespaces of their own, see vm/enter."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.container import Container, busybox_root, control_group
from tests.lib.forked_program import ForkedProgram, forked_program
from tests.lib.leaks import nothing_left
from tests.lib.oci_writer import write_archive
from tests.lib.program import NOBODY, Program, copied
from tests.lib.registry import Registry, registry
from tests.lib.small_image import small_image


@pytest.fixture(scope="session")
def program(zipapp: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedProgram]:
    """The zipapp, imported once and forked for every run: what is tested is what it does, not how it starts."""
    with forked_program(zipapp, tmp_path_factory.mktemp("program")) as running:
        yield running


@pytest.fixture(scope="session")
def spawned(zipapp: Path) -> Program:
    """The zipapp, to be run as people run it, from the start of Python on."""
    return Program(zipapp)


@pytest.fixture(scope="session")
def nobody(zipapp: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The zipapp, to be run by a user of no privileges, who need not be able to enter this repository."""
    place = tmp_path_factory.mktemp("nobody")
    for directory in (place, *place.parents[:2]):
        directory.chmod(0o755)
    return Program(copied(zipapp, place / zipapp.name), before=NOBODY)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the small image."""
    return write_archive(tmp_path_factory.mktemp("small") / "small.oci", small_image())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry over HTTP."""
    with registry(tmp_path_factory.mktemp("plain")) as running:
        yield running


@pytest.fixture(autouse=True)
def no_leaks(tmp_path: Path) -> Iterator[None]:
    """Fails a test whose verbs left a mount, a loop device, a process or a file behind; takes its directory away.

    All of /tmp is in RAM, and trees are many.
    """
    with nothing_left(tmp_path):
        yield
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose only program is busybox."""
    return busybox_root(tmp_path_factory.mktemp("busybox") / "root")


@pytest.fixture
def root(busybox: Path, tmp_path: Path) -> Path:
    """The same for one test."""
    made = tmp_path / "root"
    shutil.copytree(busybox, made, symlinks=True)
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    return made


@pytest.fixture
def container(zipapp: Path) -> Iterator[Container]:
    """A container for a guest, with a control group of its own."""
    with control_group("guest") as group:
        yield Container(zipapp, group)
