"""Rules for the text of any file: its length, and notes to self that were left in it."""

from __future__ import annotations

import re
from pathlib import PurePath

MOST_LINES = 400

# Spelt apart, so that this file passes its own rule.
_NOTES = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")


def may_be_long(name: str) -> bool:
    """Whether a file is generated or prose: lock files and Markdown."""
    return PurePath(name).suffix in {".lock", ".md"}


def too_long(name: str, text: str) -> list[str]:
    """One finding if a file has more lines than a reader wants."""
    lines = len(text.splitlines())
    long = lines > MOST_LINES and not may_be_long(name)
    return [f"{name} has {lines} lines, more than {MOST_LINES}: split it"] if long else []


def notes(name: str, text: str) -> list[str]:
    """A finding for every line that carries a note to self."""
    return [
        f"{name}:{number}: {line.strip()}" for number, line in enumerate(text.splitlines(), 1) if _NOTES.search(line)
    ]
