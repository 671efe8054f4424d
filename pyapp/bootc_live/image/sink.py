"""The interface of sinks, which process the layers of an image while they are written to the data file.

A sink reads a layer from the data file, up to the size that it was told. A sink that consumes layers frees their memory
on the way, so that no unpacked layer has to fit into memory as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from bootc_live.image.verified import ResolvedImage

_INTERVAL = 0.001


@dataclass(frozen=True)
class LayerPlace:
    """A layer that is about to be written at ``offset`` of the data file.

    A sink that consumes layers must leave the bytes where they are if ``keep`` is set: the layer occurs again.
    ``whole`` is the size of a layer that is there already, and right.
    """

    diff_id: str
    offset: int
    keep: bool = False
    whole: int | None = None


class LayerProgress(Protocol):
    """The progress of writing one layer."""

    def advance(self, size: int) -> None:
        """Report that ``size`` bytes of the layer are written and hashed."""

    def full(self, size: int) -> bool:
        """Return whether the writer, at ``size`` bytes, is too far ahead of the reader and has to wait."""

    def end(self, size: int) -> None:
        """Report that the layer is complete with ``size`` bytes."""


class LayerSink(Protocol):
    """Processes the layers of an image; if a source fails, of the next source's image."""

    @property
    def consumes(self) -> bool:
        """Whether layers are consumed; then they are passed one at a time, base first."""

    def begin(self, image: ResolvedImage) -> int:
        """Prepare for an image; return how many of its base layers were already processed for the last image."""

    def layer(self, place: LayerPlace) -> AbstractContextManager[LayerProgress]:
        """Process one layer while the block writes it.

        The layer is verified if the block ends without an error, and abandoned otherwise. Raise ImageError if the layer
        cannot be used; its message leaves the subject to ``about``.
        """


class DataFile:
    """The sink that only leaves the layers in the data file."""

    consumes = False

    def begin(self, image: ResolvedImage) -> int:  # noqa: ARG002
        """Return 0."""
        return 0

    @contextmanager
    def layer(self, place: LayerPlace) -> Iterator[LayerProgress]:  # noqa: ARG002
        """Do nothing."""
        yield self

    def advance(self, size: int) -> None:
        """Do nothing."""

    def full(self, size: int) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def end(self, size: int) -> None:
        """Do nothing."""


def wait_for(progress: LayerProgress, size: int, stopped: Callable[[], bool]) -> None:
    """Wait until the reader has come close enough to ``size`` bytes, or ``stopped`` returns True."""
    while progress.full(size) and not stopped():
        time.sleep(_INTERVAL)
