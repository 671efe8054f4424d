"""What the tests with servers that misbehave share: the program, many runs of it side by side, and a known image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.fault_image import Published, published
from tests.lib.forked_pool import forked_pool
from tests.lib.program import Program


@pytest.fixture(scope="module")
def program(zipapp: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The zipapp, ready to be forked."""
    with forked_pool(zipapp, tmp_path_factory.mktemp("program")) as made:
        yield made


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """An image in a registry of its own, and its tree."""
    with published(tmp_path_factory.mktemp("image")) as made:
        yield made
