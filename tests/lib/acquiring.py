"""Acquires images as verbs do, and looks at the data file afterwards."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bootc_live.base.log import Recorder
from bootc_live.config.model import RetryLimits
from bootc_live.config.source_spec import parse_source
from bootc_live.image.detached import Beside
from bootc_live.image.fetch import fetch_layers
from bootc_live.image.fetch_stream import stream_candidate
from bootc_live.image.recipe import Fetched
from bootc_live.image.resolve import Wanted, resolve_image
from bootc_live.image.sink import DataFile
from bootc_live.image.store.layer_store import layer_store
from bootc_live.image.verified import VerifiedImage
from bootc_live.source.access import Access
from bootc_live.source.archive.stream import StreamArchive
from bootc_live.source.interface import AnySource, StreamSource
from bootc_live.source.retry import RetryPolicy
from tests.lib.fetching import plain

QUICK: Final = RetryPolicy(RetryLimits(tries=4, stall=60.0, total=600.0), first_delay=0.001, longest_delay=0.002)


@dataclass
class Attempted:
    """What an image is acquired with: `said` is what was told on the way, `changes` are fields of `Access`."""

    changes: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    recorder: Recorder = field(default_factory=lambda: Recorder(quiet=True))

    def __post_init__(self) -> None:
        self.access = Access(**{"tell": self.said.append, "policy": QUICK, **self.changes})

    def acquire(self, data: Path, *sources: str) -> Fetched[None]:
        """The image of the first source that can be used, each written as after `root=bootc-live:`."""
        return plain([parse_source(source) for source in sources], self.access, data, self.recorder)


def acquired(data: Path, *sources: str, **changes: Any) -> VerifiedImage:
    """The image that `sources` give, in the new data file `data`."""
    return Attempted(changes).acquire(data, *sources).image


def fetch_opened(source: AnySource, data: Path) -> VerifiedImage:
    """The image of an open source, in the new data file `data`."""
    recorder = Recorder(quiet=True)
    with layer_store(str(data)) as store:
        if isinstance(source, StreamSource):
            with stream_candidate(source, Wanted(), store, recorder, Beside()) as found:
                return found.fetch(DataFile())
        return fetch_layers(source, resolve_image(source), store, recorder, DataFile())


def contents(image: VerifiedImage) -> list[bytes]:
    """The tars as they lie in the data file, base first."""
    with open(image.path, "rb") as data:
        return [os.pread(data.fileno(), made.size, made.offset) for made in image.layers]


def allocated(path: str | Path) -> int:
    """Bytes that a sparse file takes on its file system."""
    return os.stat(path).st_blocks * 512


@dataclass
class Streamed:
    """An archive of these bytes, given in pieces, as a stream; `interrupted` counts the calls that end it."""

    archive: bytes
    piece: int = 2**20
    interrupted: int = 0

    def _pieces(self) -> Iterator[bytes]:
        for begin in range(0, len(self.archive), self.piece):
            yield self.archive[begin : begin + self.piece]

    @contextmanager
    def opened(self) -> Iterator[Iterator[bytes]]:
        """The bytes from the front."""
        yield self._pieces()

    def _interrupt(self) -> None:
        self.interrupted += 1

    def source(self, label: str | None = None) -> StreamArchive:
        """The source for them."""
        return StreamArchive(self.opened, "/typed.oci", label, insecure=False, interrupt=self._interrupt)

    def fetch(self, data: Path, label: str | None = None, wanted: Wanted | None = None) -> VerifiedImage:
        """The image in them, in the new data file `data`."""
        with layer_store(str(data)) as store:
            wanted = wanted or Wanted()
            with stream_candidate(self.source(label), wanted, store, Recorder(quiet=True), Beside()) as found:
                return found.fetch(DataFile())


def streamed(
    archive: bytes, data: Path, label: str | None = None, wanted: Wanted | None = None
) -> tuple[list[bytes], VerifiedImage]:
    """The tars of the image that an archive holds, read as a stream, and the image; `data` is gone again."""
    image = Streamed(archive).fetch(data, label, wanted)
    tars = contents(image)
    data.unlink()
    return tars, image


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file can grow beyond `size` within the block: as good as a full file system."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
