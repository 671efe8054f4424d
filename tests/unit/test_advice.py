"""Hints name kernel arguments where a machine boots, and options at a desk."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_live.__main__ import main
from bootc_live.base.advice import advise, advise_at_desk

_ARGUMENT = re.compile(r"\bbootc\.[a-z]|\bbootclabel|\broot=|\bip=|\bproxy=")
# The rooms that verbs of a desk use.
_ROOMS = ("source", "image")
# What was given is quoted; whom to trust can only be said on a kernel command line.
_QUOTED = re.compile(r"bootc\.live\.digest= allows |bootc\.trust\.")


def test_words_by_place() -> None:
    assert advise("boot", "desk") == "boot"
    with advise_at_desk():
        assert advise("boot", "desk") == "desk"
    assert advise("boot", "desk") == "boot"


def test_the_verb_tells_the_place(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "none.oci"
    assert main(["inspect", str(missing)]) == 1
    assert "what to do: check the path" in capfd.readouterr().err


def unadvised(tree: ast.AST) -> Iterator[str]:
    """Texts that name a kernel argument, outside of docstrings and of the words for a boot."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id == "advise":
            yield from unadvised(child.args[1])
        elif isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue
        else:
            if isinstance(child, ast.Constant) and isinstance(child.value, str) and _ARGUMENT.search(child.value):
                yield child.value
            yield from unadvised(child)


def test_kernel_arguments_are_for_boots(repo: Path) -> None:
    package = repo / "pyapp" / "bootc_live"
    sources = [path.read_text() for room in _ROOMS for path in (package / room).rglob("*.py")]
    found = [text for source in sources for text in unadvised(ast.parse(source)) if not _QUOTED.search(text)]
    assert found == []
    assert list(unadvised(ast.parse("f(hint='use ip=')"))) == ["use ip="]
