"""Measurements in guests, which run on this machine itself; only their ratios mean anything where they are emulated."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.bench_plugin import figures, pytest_configure, pytest_terminal_summary
from tests.lib.registry import GUEST, registry
from vmkit.paths import OUT, REPO, VM

__all__ = ["figures", "pytest_configure", "pytest_terminal_summary"]


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A directory in the repository, which the builder root sees, too."""
    with tempfile.TemporaryDirectory(prefix="guests-", dir=REPO / "build") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def source(scratch: Path) -> Iterator[str]:
    """What guests call the live image in a registry."""
    with registry(scratch / "registry") as running:
        running.push(f"oci-archive:{OUT / 'live.oci'}:latest", "os/live:stable")
        yield running.source("os/live:stable", host=GUEST)


@pytest.fixture(scope="session")
def disk(scratch: Path) -> Path:
    """The live image's tree on a disk of its own, an ext4 file system."""
    made = scratch / "live.ext4"
    command: list[str | Path] = [VM / "enter", "builder", "tests/guests/make-disk", OUT / "live.oci", made]
    done = subprocess.run(
        command, cwd=REPO, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")
    return made
