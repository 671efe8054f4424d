"""What the tests that run the real thing share. They run as root in namespaces of their own, see vm/enter."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.leaks import nothing_left
from tests.lib.oci_writer import write_archive
from tests.lib.program import NOBODY, Program
from tests.lib.small_image import small_image


@pytest.fixture(scope="session")
def program(zipapp: Path) -> Program:
    """The zipapp, to be run as people run it."""
    return Program(zipapp)


@pytest.fixture(scope="session")
def nobody(zipapp: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The zipapp, to be run by a user of no privileges, who need not be able to enter this repository."""
    place = tmp_path_factory.mktemp("nobody")
    for directory in (place, *place.parents[:2]):
        directory.chmod(0o755)
    return Program(Path(shutil.copy(zipapp, place)), before=NOBODY)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the small image."""
    return write_archive(tmp_path_factory.mktemp("small") / "small.oci", small_image())


@pytest.fixture(autouse=True)
def no_leaks(tmp_path: Path) -> Iterator[None]:
    """Fails a test whose verbs left a mount, a loop device, a process or a file behind."""
    assert tmp_path.is_dir(), "it has to be there before the first look"
    with nothing_left():
        yield
