"""The recipes of the justfile name only what vm/build can make."""

from __future__ import annotations

import re
from pathlib import Path

from tests.runner.stages import MADE
from vmkit.targets import TARGETS, default_targets


def test_recipes_name_targets(repo: Path) -> None:
    named = set(re.findall(r"^\s+vm/build (\S+)$", (repo / "justfile").read_text(), re.MULTILINE))
    assert len(named) > 5
    assert named <= set(TARGETS)


def test_what_tests_boot_is_made_before(repo: Path) -> None:
    rows = (repo / "tests" / "vm" / "rows.py").read_text()
    booted = {name for name in TARGETS if f'"{name}"' in rows}
    assert "initrd-nosystemd.img" in booted
    assert booted <= {*default_targets(), *MADE["other images"].argv}
