"""Parsers for the values of kernel arguments."""

from __future__ import annotations

import re

_TRUE = frozenset({"1", "yes", "on", "true", "y"})
_FALSE = frozenset({"0", "no", "off", "false", "n"})
_SIZE = re.compile(r"([0-9]+)([KMGT]?)(i?B)?\Z", re.IGNORECASE)
_UNIT = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

BOOLEAN_WORDS = "1 yes on true y / 0 no off false n"


def parse_boolean(text: str | None) -> bool:
    """Read a boolean; no value at all means true.

    dracut's ``getargbool`` takes ``false``, ``n`` and ``Off`` for true, so it is
    never asked. Raises ValueError for anything that is not one of the words.
    """
    if text is None:
        return True
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"is not a boolean; use one of {BOOLEAN_WORDS}")


def parse_size(text: str | None) -> int:
    """Read a size such as ``512M`` or ``8G`` (powers of 1024); gives bytes, raises ValueError."""
    match = _SIZE.match(text or "")
    if match is None or int(match[1]) == 0:
        raise ValueError("is not a size; write a number with K, M, G or T, such as 8G")
    return int(match[1]) * _UNIT[match[2].upper()]


def parse_text(text: str | None) -> str:
    """Read a value that may be any text but not empty; raises ValueError."""
    if not text:
        raise ValueError("needs a value")
    return text
