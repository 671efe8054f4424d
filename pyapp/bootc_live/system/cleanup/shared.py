"""A directory that several runs of this program share, and each of them removes when it is empty."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

# Each time, another run has come to its end just then.
_TRIES = 1000

_Made = TypeVar("_Made")


def made_in(directory: str, make: Callable[[], _Made]) -> _Made:
    """Return what ``make`` makes in a directory, which is made where it is not there, or not any more.

    Raises OSError.
    """
    for _ in range(_TRIES - 1):
        try:
            os.makedirs(directory, exist_ok=True)
            return make()
        except FileNotFoundError:
            continue
        except FileExistsError:
            # Somebody's file, which stays, or a directory that is gone since.
            if os.path.lexists(directory) and not os.path.isdir(directory):
                raise
    os.makedirs(directory, exist_ok=True)
    return make()
