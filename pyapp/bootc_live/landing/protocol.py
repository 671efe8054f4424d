"""The contract of landings: how an image becomes the running system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

Made_contra = TypeVar("Made_contra", contravariant=True)
Receipt = dict[str, object]


class Landing(Protocol[Made_contra]):
    """One way to land something made: a mounted root, or the boot files of an image.

    The methods are called in this order. Nothing outside of the program changes before ``commit``.
    """

    def check(self) -> None:
        """Raise LandingError for what cannot succeed with any image, before anything is fetched."""

    def examine(self, made: Made_contra) -> Sequence[str]:
        """Raise LandingError if this image cannot land here; return what else a person should be warned of."""

    def prepare(self, made: Made_contra, receipt: Receipt) -> str:
        """Do everything that can fail, and return in a few words what is ready; raise BootcLiveError."""

    def commit(self) -> str:
        """Land, and return in a few words what was done: the point of no return.

        Raise LandingError if that fails after all.
        """

    def undo(self) -> None:
        """Release what ``prepare`` acquired: after a failure, a dry run, or ``commit``."""
