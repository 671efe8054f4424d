"""Words of hints: while a machine boots, a hint names kernel arguments; at a desk, it names options of the command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_places = ["boot"]


@contextmanager
def advise_at_desk() -> Iterator[None]:
    """Make the hints of the block name options: no machine is being booted."""
    _places.append("desk")
    try:
        yield
    finally:
        _places.pop()


def advise(boot: str, desk: str) -> str:
    """Return the words of a hint for the place where the program runs."""
    return desk if _places[-1] == "desk" else boot
