"""The smallest number that does, found with few trials where one is expensive and a guess is at hand."""

from __future__ import annotations

from collections.abc import Callable


def smallest(does: Callable[[int], bool], guess: int, step: int, low: int, high: int) -> int:
    """The smallest of `low + step`, `low + 2 * step`, … up to `high` that does, where all above it do, too.

    `low` must not do and `high` must; neither is tried. The trials begin at `guess` and go from there in strides that
    double, until one does and one does not; then they halve what is in between. What is one step below the result has
    been tried, unless that is `low`.
    """
    bottom, top = low, high
    stride = step
    at = low + max(1, min((guess - low) // step, (high - low) // step - 1)) * step
    # Until both ends are known from trials, go on in the direction the last one points to.
    while top - bottom > step:
        if does(at):
            top = at
            at = max(at - stride, bottom + step) if bottom == low else _between(bottom, top, step)
        else:
            bottom = at
            at = min(at + stride, top - step) if top == high else _between(bottom, top, step)
        stride *= 2
    return top


def _between(bottom: int, top: int, step: int) -> int:
    return bottom + max(1, (top - bottom) // step // 2) * step
