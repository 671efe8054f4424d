"""ruff, mypy, shellcheck, shfmt and just have nothing to say, and are set up to say something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.lib.needs import needs
from tests.lint.tree import REPO, name_of, python_files, shell_files

_BIN = Path(sys.executable).parent
_TYPED = ("pyapp/bootc_live", "pyapp/build_zipapp.py", "pyapp/wheelhouse.py", "vm/vmkit", "tests")


def _complaints(*argv: str | Path, stdin: str | None = None) -> str:
    """What a linter printed; empty if it was content."""
    source = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run(argv, cwd=REPO, check=False, capture_output=True, text=True, **source)
    return f"{done.stdout}{done.stderr}\nstatus {done.returncode}" if done.returncode else ""


def _assert_content(*argv: str | Path) -> None:
    if complaints := _complaints(*argv):
        pytest.fail(complaints, pytrace=False)


def _ruff_sample(source: str, name: str = "pyapp/bootc_live/base/sample.py") -> str:
    return _complaints(
        _BIN / "ruff", "check", "--no-cache", "--output-format=concise", "--stdin-filename", name, "-", stdin=source
    )


def test_ruff_check() -> None:
    _assert_content(_BIN / "ruff", "check", *python_files())


def test_ruff_format() -> None:
    _assert_content(_BIN / "ruff", "format", "--diff", *python_files())


@pytest.mark.parametrize(
    ("code", "source"),
    [
        ("D103", '"""Doc."""\n\n\ndef f() -> None:\n    g()\n'),
        ("D101", '"""Doc."""\n\n\nclass C:\n    x = 1\n'),
        ("E722", '"""Doc."""\n\ntry:\n    x = 1\nexcept:\n    x = 2\n'),
        ("BLE001", '"""Doc."""\n\ntry:\n    x = 1\nexcept Exception:\n    x = 2\n'),
        ("S110", '"""Doc."""\n\ntry:\n    x = 1\nexcept Exception:\n    pass\n'),
        ("ANN201", '"""Doc."""\n\n\ndef f():\n    """Give one."""\n    return 1\n'),
        ("T201", '"""Doc."""\n\nprint(1)\n'),
        ("TID252", '"""Doc."""\n\nfrom . import errors\n'),
        ("S602", '"""Doc."""\n\nimport subprocess\n\nsubprocess.run("a $b", shell=True, check=True)\n'),
    ],
)
def test_ruff_is_awake(code: str, source: str) -> None:
    assert f" {code} " in _ruff_sample(source)


def test_mypy() -> None:
    _assert_content(_BIN / "mypy", *(path for path in _TYPED if (REPO / path).exists()))


def test_mypy_is_awake() -> None:
    assert "[no-untyped-def]" in _complaints(_BIN / "mypy", "-c", "def f(x): return x")


@needs("shellcheck")
def test_shellcheck() -> None:
    _assert_content("shellcheck", *shell_files())


@needs("shfmt")
def test_shfmt() -> None:
    _assert_content("shfmt", "-d", *shell_files())


@needs("shellcheck", "shfmt")
def test_shell_linters_are_awake(tmp_path: Path) -> None:
    script = tmp_path / "bad.sh"
    script.write_text("#!/bin/sh\n  cp $1 /tmp\n")
    assert "SC2086" in _complaints("shellcheck", script)
    assert "+cp $1 /tmp" in _complaints("shfmt", "-d", script)


def test_shell_scripts_are_posix() -> None:
    """Only dracut's own module-setup.sh files may ask for bash, which dracut itself is written in."""
    asks_for_bash = [path for path in shell_files() if path.read_text().partition("\n")[0].endswith("bash")]
    assert [name_of(path) for path in asks_for_bash if path.name != "module-setup.sh"] == []


def test_justfile_parses() -> None:
    listed = subprocess.run(
        [_BIN / "just", "--list", "--unsorted"], cwd=REPO, check=True, capture_output=True, text=True
    )
    assert "zipapp" in listed.stdout
    assert "run-vm" in listed.stdout


def test_justfile_is_formatted() -> None:
    _assert_content(_BIN / "just", "--unstable", "--fmt", "--check")
