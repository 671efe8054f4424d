"""``guest`` as the first process of the containers that people have: systemd-nspawn and podman.

The commands and configurations are those of docs/guest.md. systemd is the guest under systemd-nspawn; podman's guest is
busybox, as this machine may give it no control groups.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.test_guest_systems import layer
from tests.lib.container import FIRST, MAP, busybox_root, control_group, give
from tests.lib.program import SECONDS

# Commands of the page, without the prompt; a backslash continues a line.
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def system(zipapp: Path, tmp_path: Path) -> Iterator[Path]:
    """The container's own root: this one, with the program, and nothing of it is written to."""
    place, own = tmp_path / "container", tmp_path / "own"
    for directory in (place, own, own / "upper", own / "work"):
        directory.mkdir()
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    options = f"lowerdir=/,upperdir={own}/upper,workdir={own}/work"
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", own], check=True)
    (own / "upper").mkdir()
    (own / "work").mkdir()
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", place], check=True)
    try:
        program = place / "usr/local/bin/bootc-live"
        shutil.copy(zipapp, program)
        program.chmod(0o755)
        (place / "mnt/root").mkdir(parents=True, exist_ok=True)
        (place / "srv/shared").mkdir()
        yield place
    finally:
        subprocess.run(["umount", "--recursive", place, own], check=False)


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    """A guest's root."""
    root = busybox_root(tmp_path / "guest")
    (root / "sbin").mkdir()
    give(root, FIRST)
    return root
