"""Checks that time grows with the size of the work and not with its square, however busy the machine is."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Final

# How many times as much work is done; what is quadratic takes the square of it as long.
_TIMES: Final = 8
_MOST: Final = 3 * _TIMES
_TRIES: Final = 5


def check_linear(work: Callable[[int], object], size: int) -> None:
    """Raises AssertionError unless eight times the work takes about eight times the processor's time of `work(size)`.

    Other programs only make it take longer, so the best of some tries counts.
    """
    little = much = float("inf")
    for _ in range(_TRIES):
        little, much = min(little, _spent(work, size)), min(much, _spent(work, _TIMES * size))
        if much < _MOST * little:
            return
    raise AssertionError(f"{size} take {little:.4f} s, {_TIMES * size} take {much:.4f} s")


def _spent(work: Callable[[int], object], size: int) -> float:
    began = _used()
    work(size)
    return _used() - began


def _used() -> float:
    """Seconds of processor time that this process and its children that have ended took."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)
