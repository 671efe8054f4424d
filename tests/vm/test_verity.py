"""dm-verity, in a kernel that has it: this machine's may not. See tests/integration/verity_device.py."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from vmkit.paths import REPO, VM

SECONDS = 600
TESTS = "tests/integration/verity_device.py"


def test_in_a_kernel_of_its_own(request: pytest.FixtureRequest) -> None:
    command: list[str | Path] = [
        VM / "enter",
        "forky",
        "tests/vm/uml-pytest",
        "-q",
        TESTS,
        *(["--long"] if request.config.getoption("--long") else []),
    ]
    done = subprocess.run(
        command, cwd=REPO, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^[0-9]+ passed\b", done.stdout, re.MULTILINE), done.stdout
