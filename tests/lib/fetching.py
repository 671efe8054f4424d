"""The pipeline up to a verified image, for tests of what comes after it and of its own parts."""

from __future__ import annotations

from pathlib import Path

from bootc_live.base.log import Recorder
from bootc_live.config.source_spec import ArchiveFile
from bootc_live.image.acquire import acquire
from bootc_live.image.verified import VerifiedImage
from bootc_live.source.access import Access


def quiet(_message: str) -> None:
    """Hears of new tries, and keeps it to itself."""


def fetched_archive(path: Path, typed: str, data: Path) -> VerifiedImage:
    """The image of an archive, in the new data file `data`."""
    specs = [ArchiveFile(str(path), typed)]
    return acquire(specs, Access(quiet), str(data), Recorder(quiet=True)).image
