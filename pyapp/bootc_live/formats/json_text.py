"""Read JSON that servers and archives send, within bounds that hold before anything is made of it."""

from __future__ import annotations

import json
import re
from collections.abc import Set as AbstractSet
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

# Their names are data: upper and lower case are different ones.
_MAPS = frozenset({"annotations"})


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


def read_json(content: bytes, fields: AbstractSet[str] = frozenset()) -> Any:
    """Return what a document in UTF-8 says. Raises ValueError, and nothing else.

    With ``fields``, by which its parts are found, one that other programs may read otherwise is refused: where a name
    stands twice in an object, or a field is written in other case, which Go takes for the same.

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
        data = json.loads(
            text, object_pairs_hook=_unique if fields else None, parse_constant=_refuse, parse_int=_integer
        )
    except RecursionError as error:
        raise ValueError("it is too deep") from error
    _check_case(data, fields, {name.casefold() for name in fields})
    return data


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a name twice")
    return found


def _check_case(data: object, fields: AbstractSet[str], folded: AbstractSet[str]) -> None:
    if isinstance(data, list):
        for item in data:
            _check_case(item, fields, folded)
    elif isinstance(data, dict):
        for name, value in data.items():
            if name not in fields and name.casefold() in folded:
                raise ValueError(f"it has the name {name!r}, a known one in other upper and lower case")
            if name in fields and name not in _MAPS:
                _check_case(value, fields, folded)


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
