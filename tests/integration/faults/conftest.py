"""What the tests with servers that misbehave share: a known image."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lib.fault_image import Published, published


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """An image in a registry of its own, and its tree."""
    with published(tmp_path_factory.mktemp("image")) as made:
        yield made
