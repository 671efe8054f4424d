"""Parse numbers from untrusted input: servers, images, archives, the command line."""

from __future__ import annotations

# The largest size and offset of a file on Linux.
LARGEST_SIZE = 2**63 - 1
# Leading zeros are allowed, but not a megabyte of them.
_LONGEST = 64
_DIGITS = frozenset("0123456789")


def decimal(text: str | bytes, *, limit: int) -> int:
    """Parse ASCII digits as a number from 0 to ``limit``.

    Raises ValueError for everything else that ``int()`` accepts: signs, blanks, underscores, digits of other scripts.
    ``str.isdigit`` is no substitute: it is true for "²".
    """
    characters = text.decode("latin-1") if isinstance(text, bytes) else text
    if not 0 < len(characters) <= _LONGEST or not _DIGITS.issuperset(characters):
        raise ValueError("not a decimal number")
    return bounded_integer(int(characters), limit=limit)


def bounded_integer(value: object, *, limit: int) -> int:
    """Return a value from a JSON document if it is an integer from 0 to ``limit``, else raise ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise ValueError(f"not a whole number from 0 to {limit}")
    return value
