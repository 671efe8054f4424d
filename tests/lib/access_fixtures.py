"""The image of all tests of access, one for the whole run; a test module asks for it by `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lib.access import Stored, stored


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """An image in a registry, and as an archive."""
    with stored(tmp_path_factory.mktemp("stored")) as made:
        yield made
