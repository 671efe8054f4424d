"""tests/run says no when there is nothing to be glad about."""

from __future__ import annotations

import subprocess
from pathlib import Path


def _run(repo: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    argv = [str(repo / "tests" / "run"), *arguments]
    return subprocess.run(argv, cwd="/", env=environment, check=False, capture_output=True, text=True)


def test_unknown_stage_is_refused(repo: Path) -> None:
    done = _run(repo, "everything")
    assert done.returncode == 2
    assert "Usage: tests/run" in done.stderr


def test_no_test_is_no_success(repo: Path) -> None:
    done = _run(repo, "lint", "--", "-k", "no_test_has_this_name")
    assert done.returncode == 1
    assert "no tests ran" in done.stdout.splitlines()[-1]


def test_last_line_sums_up(repo: Path) -> None:
    done = _run(repo, "lint", "--", "-k", "test_ordered_unit_passes or test_long_hook_is_found")
    assert done.returncode == 0, done.stderr
    assert "2 passed, " in done.stdout.splitlines()[-1]
