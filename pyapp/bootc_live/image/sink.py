"""The contract of fetching: where the layers of an image go while they are written to the data file.

A sink reads a layer from the data file, at the layer's offset, as far as it was told that bytes are there. A sink that
consumes layers gives their memory back as it goes, so no inflated layer need lie in memory as a whole.
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
    """A layer that is about to be written at ``offset`` of the data file; ``what`` names it in messages.

    A sink that consumes layers must leave the bytes where they are if ``keep`` is set: the layer occurs again.
    """

    diff_id: str
    offset: int
    what: str
    keep: bool = False


class LayerProgress(Protocol):
    """Is told how far a layer has been written."""

    def advance(self, size: int) -> None:
        """Note that ``size`` bytes of the layer can be read, and have been hashed."""

    def full(self, size: int) -> bool:
        """Tell whether the writer, at ``size`` bytes, is too far ahead of the reader and has to wait."""

    def end(self, size: int) -> None:
        """Note that the layer is complete with ``size`` bytes."""


class LayerSink(Protocol):
    """Receives the layers of one image after another: a source that fails is followed by the next."""

    @property
    def consumes(self) -> bool:
        """Whether layers are consumed: then they come one at a time, base first."""

    def begin(self, image: ResolvedImage) -> int:
        """Prepare for an image, keep what it shares with the one before; return how many base layers are there."""

    def layer(self, place: LayerPlace) -> AbstractContextManager[LayerProgress]:
        """Receive one layer while the block writes it.

        The layer is verified if the block ends without an error, and abandoned otherwise. Raise ImageError naming
        ``place.what`` if the layer cannot be used.
        """


class DataFile:
    """The sink that leaves every layer where it is written."""

    consumes = False

    def begin(self, image: ResolvedImage) -> int:  # noqa: ARG002
        """Have nothing of it."""
        return 0

    @contextmanager
    def layer(self, place: LayerPlace) -> Iterator[LayerProgress]:  # noqa: ARG002
        """Need nothing."""
        yield self

    def advance(self, size: int) -> None:
        """Ignore it."""

    def full(self, size: int) -> bool:  # noqa: ARG002
        """Never let the writer wait."""
        return False

    def end(self, size: int) -> None:
        """Ignore it."""


def wait_for(progress: LayerProgress, size: int, stopped: Callable[[], bool]) -> None:
    """Wait until the reader has come close enough to ``size`` bytes, or ``stopped`` returns True."""
    while progress.full(size) and not stopped():
        time.sleep(_INTERVAL)
