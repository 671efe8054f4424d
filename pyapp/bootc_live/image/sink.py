"""Layers handed on while they are being written, so that an inflated layer need never lie in memory as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from bootc_live.image.admit import Admit, admit_all
from bootc_live.image.verified import ResolvedImage
from bootc_live.source.interface import Source

_LOOK = 0.001


class LayerProgress(Protocol):
    """Is told how far a layer has been written, and how far ahead of its reader that may be."""

    def advance(self, size: int) -> None:
        """So many bytes of the layer are there to be read, and have been hashed."""

    def full(self, size: int) -> bool:
        """Tell whether to wait before going on beyond so many bytes."""

    def end(self, size: int) -> None:
        """The layer has so many bytes and no more."""


class LayerConsumer(Protocol):
    """Takes the layers of one image, base first, and gives their memory back as it goes.

    What a layer says counts only once its block has ended without an error: then it has been verified.
    """

    @property
    def taken(self) -> tuple[str, ...]:
        """The diffIDs of the layers it has, base first."""

    def restart(self) -> None:
        """Forget all layers: another image comes."""

    def layer(self, diff_id: str, offset: int, what: str, *, keep: bool) -> AbstractContextManager[LayerProgress]:
        """Take the next layer, which begins at ``offset`` of the data file, while the block writes it.

        With ``keep`` its bytes stay there. Raises ImageError naming ``what`` where the layer cannot be used.
        """


class LayerReaders(Protocol):
    """Look at layers while they are written, in whatever order, and leave them where they are."""

    def keep_only(self, diff_ids: Collection[str]) -> None:
        """Forget all layers but these: another image comes."""

    def layer(self, diff_id: str, offset: int) -> AbstractContextManager[LayerProgress]:
        """Look at one layer, which begins at ``offset`` of the data file, while the block writes it."""


class BlobsKept(Protocol):
    """Keeps an image's blobs as they come, compressed."""

    def keeping(self, source: Source, image: ResolvedImage, known: Mapping[str, bytes]) -> Source:
        """Give a source that keeps what is read of ``source``; ``known`` has the manifest and the config by digest."""


@dataclass(frozen=True)
class Takers:
    """Who is told of an image on its way: ``admit`` may refuse it before its first layer.

    What ``consumer`` gives after that has all layers in the end, and nothing of them is left; where it gives None,
    ``readers`` may look at them on their way into the data file. ``blobs`` gets what comes from sources that have
    blobs, which archives that can only be read once have not.
    """

    admit: Admit = admit_all
    consumer: Callable[[], LayerConsumer | None] = lambda: None
    readers: LayerReaders | None = None
    blobs: BlobsKept | None = None


def wait_for(tap: LayerProgress, size: int, stopped: Callable[[], bool]) -> None:
    """Wait until the reader has come close enough to ``size`` bytes, or ``stopped`` says not to."""
    while tap.full(size) and not stopped():
        time.sleep(_LOOK)
