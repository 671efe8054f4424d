"""Read JSON that servers and archives send, within bounds that hold before anything is made of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

# Of one document. Real ones have some kilobytes, a few hundred brackets and commas, and are six levels deep.
LARGEST = 4 * 1024 * 1024
MOST_SIGNS = 100_000
DEEPEST = 64
_MOST_DIGITS = 64
# Of all documents that one source leads to.
LARGEST_TOGETHER = 4 * LARGEST

# Both always match up to the end of what they began with, so that no sign is looked at again from another start.
_STRING = re.compile(r'"(?:[^"\\]++|\\.?)*+(?:"|\Z)', re.DOTALL)
_NO_STRUCTURE = re.compile(r"[^\[\]{},]+")

Pairs = Callable[[list[tuple[str, object]]], object]


class Budget:
    """What the documents that a source leads to may have together."""

    def __init__(self) -> None:
        """Begin with nothing spent."""
        self._left = LARGEST_TOGETHER

    def spend(self, size: int) -> None:
        """Count a document of so many bytes; raises ValueError where all have too many."""
        self._left -= size
        if self._left < 0:
            raise ValueError(f"more than {LARGEST_TOGETHER} bytes of documents")


def read_json(content: bytes, pairs: Pairs | None = None) -> Any:
    """Return what a document in UTF-8 says; ``pairs`` makes its objects. Raises ValueError, and nothing else.

    NaN and Infinity, which are no JSON, are refused. The bounds are checked by looking at brackets and commas:
    an empty list takes two bytes in a document and sixty in memory.
    """
    if len(content) > LARGEST:
        raise ValueError(f"it has more than {LARGEST} bytes")
    text = content.decode("utf-8")
    structure = _NO_STRUCTURE.sub("", _STRING.sub("", text))
    if len(structure) > MOST_SIGNS:
        raise ValueError(f"it has more than {MOST_SIGNS} brackets and commas")
    if _depth(structure) > DEEPEST:
        raise ValueError(f"it is more than {DEEPEST} levels deep")
    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=_refuse, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("it is too deep") from error


def _depth(structure: str) -> int:
    depth = deepest = 0
    for sign in structure:
        if sign in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif sign != ",":
            depth -= 1
    return deepest


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it has a number of more than {_MOST_DIGITS} digits")
    return int(digits)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
