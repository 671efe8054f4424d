"""Hooks that dracut sources: short, and never `exit`, which would end dracut's own init."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.lib.needs import need

MOST_LINES = 40


def is_hook(path: Path) -> bool:
    """Whether a shell file of modules.d is more than a packing list."""
    return path.name != "module-setup.sh"


def is_sourced(path: Path) -> bool:
    """Whether dracut sources the file; generators are run as programs."""
    return is_hook(path) and "generator" not in path.name


def too_long(name: str, text: str) -> list[str]:
    """One finding if the hook has more lines than a hook may have."""
    lines = len(text.splitlines())
    return [f"{name} has {lines} lines, a hook has at most {MOST_LINES}"] if lines > MOST_LINES else []


def exits(name: str, text: str) -> list[str]:
    """A finding for every call of `exit`, found in the syntax tree that shfmt gives."""
    need("shfmt")
    done = subprocess.run(["shfmt", "-ln=posix", "--to-json"], input=text, check=True, capture_output=True, text=True)
    return [f"{name}:{line} calls exit; a sourced hook returns" for line in _calls(json.loads(done.stdout), "exit")]


def _calls(node: Any, command: str) -> Iterator[int]:
    if isinstance(node, dict):
        words = [part.get("Value") for argument in node.get("Args") or [] for part in argument.get("Parts", [])]
        if words[:1] == [command]:
            yield node["Pos"]["Line"]
        for child in node.values():
            yield from _calls(child, command)
    elif isinstance(node, list):
        for child in node:
            yield from _calls(child, command)
