"""The pipeline up to a verified image, for tests of what comes after it and of its own parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bootc_live.base.log import Recorder
from bootc_live.config.source_spec import ArchiveFile, SourceSpec
from bootc_live.image.recipe import Fetched, IntoSink
from bootc_live.image.sink import DataFile, LayerSink
from bootc_live.image.verified import VerifiedImage
from bootc_live.pipeline import fetch
from bootc_live.rootfs.layouts.index.layout import METADATA_ROOM
from bootc_live.source.access import Access


def quiet(_message: str) -> None:
    """Hears of new tries, and keeps it to itself."""


def fetched_archive(path: Path, source_text: str, data: Path) -> VerifiedImage:
    """The image of an archive, in the new data file `data`."""
    specs = [ArchiveFile(str(path), source_text)]
    return plain(specs, Access(quiet), data, Recorder(quiet=True)).image


def plain(
    specs: Sequence[SourceSpec], access: Access, data: Path, recorder: Recorder, sink: LayerSink | None = None
) -> Fetched[None]:
    """The image of the first source that can be used, in the new data file `data` or where the sink puts it."""
    return fetch(specs, access, IntoSink(str(data), sink or DataFile(), METADATA_ROOM), recorder)
