"""Read numbers that other people wrote: servers, images, archives, the command line."""

from __future__ import annotations

# What a file system of Linux can say: the largest size and offset of a file.
LARGEST_SIZE = 2**63 - 1
# Leading zeros are harmless, a megabyte of them is not.
_LONGEST = 64
_DIGITS = frozenset("0123456789")


def decimal(text: str | bytes, *, limit: int) -> int:
    """Return the number that ASCII digits spell, from 0 to ``limit``.

    Everything else that ``int()`` takes raises ``ValueError``: signs, blanks,
    underscores, digits of other scripts, and whatever is longer or larger than
    it may be. ``str.isdigit`` does not decide: it takes "²", and ``int`` does not.
    """
    characters = text.decode("latin-1") if isinstance(text, bytes) else text
    if not 0 < len(characters) <= _LONGEST or not _DIGITS.issuperset(characters):
        raise ValueError("not a decimal number")
    return whole(int(characters), limit=limit)


def whole(value: object, *, limit: int) -> int:
    """Return a number out of a JSON document: whole, from 0 to ``limit``, else raise ``ValueError``."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise ValueError(f"not a whole number from 0 to {limit}")
    return value
