"""Partitions, in a kernel that has VFAT and the device mapper. See tests/integration/partitions_device.py."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from vmkit.paths import REPO, VM

SECONDS = 600


def test_in_a_kernel_of_its_own() -> None:
    command: list[str | Path] = [
        VM / "enter",
        "forky",
        "tests/vm/uml-pytest",
        "-q",
        "tests/integration/partitions_device.py",
    ]
    done = subprocess.run(
        command, cwd=REPO, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^[0-9]+ passed\b", done.stdout, re.MULTILINE), done.stdout
