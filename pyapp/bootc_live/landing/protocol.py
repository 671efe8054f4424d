"""The interface of landings: the ways in which an image becomes the running system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

Made_contra = TypeVar("Made_contra", contravariant=True)
Receipt = dict[str, object]


class Landing(Protocol[Made_contra]):
    """Lands a mounted root, or the boot files of an image.

    The methods are called in this order. Nothing outside the program changes before ``commit``.
    """

    def check(self) -> None:
        """Raise LandingError if no image could land, before anything is fetched."""

    def examine(self, made: Made_contra) -> Sequence[str]:
        """Raise LandingError if this image cannot land here; return warnings."""

    def prepare(self, made: Made_contra, receipt: Receipt) -> str:
        """Do everything that can fail, and return a short text about what is ready; raise BootcLiveError."""

    def commit(self) -> str:
        """Land, and return a short text about it: the point of no return. Raise LandingError if it fails."""

    def undo(self) -> None:
        """Release what ``prepare`` acquired; called after a failure, a dry run or ``commit``."""
