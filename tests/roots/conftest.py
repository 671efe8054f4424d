"""The roots as fixtures. These tests run on the host, as root, for each test may enter another root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.roots.root import ALL, REPO, Root


@pytest.fixture(scope="session", params=ALL, ids=lambda root: f"dracut-{root.dracut}")
def root(request: pytest.FixtureRequest) -> Root:
    """Every root in turn; it is made at first use, which takes about a minute."""
    assert os.geteuid() == 0, "run these tests as root: they enter other root file systems"
    found: Root = request.param
    for name in {found.name, found.kernels}:
        subprocess.run([REPO / "vm" / "enter", name, "true"], stdin=subprocess.DEVNULL, check=True)
    return found


@pytest.fixture(scope="session")
def shared() -> Iterator[Path]:
    """A directory that this machine and the roots see at the same place."""
    path = Path(tempfile.mkdtemp(dir=REPO / "build", prefix="roots-"))
    yield path
    shutil.rmtree(path)
