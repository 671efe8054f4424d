"""Fixtures of all tests of access, one for the whole run; a test module asks for them by `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.access import Stored, stored
from tests.lib.forked_program import forked_program
from tests.lib.program import Program


@pytest.fixture(scope="session")
def quick(zipapp: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The zipapp, imported once and forked for every run."""
    with forked_program(zipapp, tmp_path_factory.mktemp("forked")) as running:
        yield running


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """An image in a registry, and as an archive."""
    with stored(tmp_path_factory.mktemp("stored")) as made:
        yield made
