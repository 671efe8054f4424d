"""Hooks and a fixture that a conftest.py of benchmarks takes over: figures are shown at the end and kept in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.lib.bench import Figures

FILE: Final = Path(__file__).resolve().parents[2] / "build/bench.json"
_KEY: Final = pytest.StashKey[Figures]()


def pytest_configure(config: pytest.Config) -> None:
    """Makes the place for all figures, once for all who take this hook over."""
    config.stash.setdefault(_KEY, Figures())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the figures under each other, if there are any."""
    if not config.stash[_KEY].lines:
        return
    terminalreporter.section("figures")
    terminalreporter.line(f"{os.cpu_count()} cores")
    for line in config.stash[_KEY].lines:
        terminalreporter.line(line)
    config.stash[_KEY].keep("machine", _machine())
    config.stash[_KEY].write(FILE)


def _machine() -> dict[str, object]:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {"cores": os.cpu_count(), "model": models[0] if models else os.uname().machine, "kernel": os.uname().release}


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """Where figures go."""
    return pytestconfig.stash[_KEY]
