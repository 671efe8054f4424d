"""Parse untrusted JSON; size and depth are checked before parsing."""

from __future__ import annotations

import json
import re
from collections.abc import Set as AbstractSet
from typing import Any, NoReturn

# Limits of a document. Real ones have a few kilobytes, a few hundred brackets and commas, and six levels.
LARGEST = 4 * 1024 * 1024
MAX_STRUCTURE = 100_000
MAX_DEPTH = 64
_MAX_DIGITS = 64
# Limit of all documents of a source together.
LARGEST_TOGETHER = 4 * LARGEST

# Both always match to the end of what they begin with, so that the time is linear.
_STRING = re.compile(r'"(?:[^"\\]++|\\.?)*+(?:"|\Z)', re.DOTALL)
_NO_STRUCTURE = re.compile(r"[^\[\]{},]+")

# Names in these objects are data, so case matters.
_MAPS = frozenset({"annotations"})


class Budget:
    """Limits the size of all documents of a source together."""

    def __init__(self) -> None:
        """Begin with the full budget."""
        self._left = LARGEST_TOGETHER

    def spend(self, size: int) -> None:
        """Subtract the size of a document; raises ValueError if the budget is exceeded."""
        self._left -= size
        if self._left < 0:
            raise ValueError(f"more than {LARGEST_TOGETHER} bytes of documents")


def read_json(content: bytes, fields: AbstractSet[str] = frozenset()) -> Any:
    """Parse a JSON document in UTF-8. Raises only ValueError, also for NaN and Infinity.

    ``fields`` are the names that the caller reads. With them, documents that other programs may read differently are
    rejected: an object has a name twice, or a field in another case, which Go accepts as the same name.

    Brackets and commas are counted before parsing: an empty list has two bytes in a document and sixty in memory.
    """
    if len(content) > LARGEST:
        raise ValueError(f"it has more than {LARGEST} bytes")
    text = content.decode("utf-8")
    structure = _NO_STRUCTURE.sub("", _STRING.sub("", text))
    if len(structure) > MAX_STRUCTURE:
        raise ValueError(f"it has more than {MAX_STRUCTURE} brackets and commas")
    if _depth(structure) > MAX_DEPTH:
        raise ValueError(f"it is more than {MAX_DEPTH} levels deep")
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
                raise ValueError(f"the name {name!r} differs from a known one only in upper and lower case")
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
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"it has a number of more than {_MAX_DIGITS} digits")
    return int(digits)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")
