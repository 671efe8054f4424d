"""Tests that change what a whole kernel has, or need drivers that this one may not have: in a kernel of their own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from vmkit.paths import REPO, VM

SECONDS = 600


@pytest.mark.parametrize("file", ["partitions_device", "slots_device", "verity_device"])
def test_in_a_kernel_of_its_own(file: str, request: pytest.FixtureRequest) -> None:
    long = ["--long"] if request.config.getoption("--long") else []
    command: list[str | Path] = [
        VM / "enter",
        "forky",
        "tests/vm/uml-pytest",
        "-q",
        f"tests/integration/{file}.py",
        *long,
    ]
    done = subprocess.run(
        command, cwd=REPO, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^[0-9]+ passed\b", done.stdout, re.MULTILINE), done.stdout
