"""EROFS images of the erofs layout, made as the verbs make them, for tests that look at their bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bootc_live.base.log import Recorder
from bootc_live.config.model import Compression, RetryLimits
from bootc_live.config.source_spec import parse_source
from bootc_live.image.recipe import Attempt
from bootc_live.rootfs.layouts.built import BuiltRoot, Finishing, unchanged
from bootc_live.rootfs.layouts.erofs.layout import ErofsBuilder, erofs_builder
from bootc_live.source.access import Access
from bootc_live.source.retry import RetryPolicy
from tests.lib.fetching import plain
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.small_image import HERE

_QUICK: Final = RetryPolicy(RetryLimits(tries=2, stall=60.0, total=600.0), first_delay=0.001, longest_delay=0.002)


@dataclass
class Building:
    """One image on its way: `where` is a directory of its own that takes the data file and the image."""

    where: Path
    compression: Compression = Compression.LZ4
    keep_times: bool = False
    verity: bool = False
    finishing: Finishing = unchanged
    recorder: Recorder = field(default_factory=lambda: Recorder(quiet=True))
    attempts: tuple[Attempt, ...] = ()
    running: ErofsBuilder | None = None

    @property
    def image(self) -> Path:
        """The image file."""
        return self.where / "root.erofs"

    @property
    def data(self) -> Path:
        """The data file, which is there while layers come."""
        return self.where / "layers"

    @contextmanager
    def builder(self) -> Iterator[ErofsBuilder]:
        """The builder; an error in the block takes the image away again."""
        with erofs_builder(str(self.image), str(self.data), self.compression) as builder:
            self.running = builder
            yield builder

    def make(self, *sources: str | Path) -> BuiltRoot:
        """The image of the first source that can be used; the data file is gone afterwards."""
        access = Access(lambda _: None, policy=_QUICK)
        specs = [parse_source(str(source)) for source in sources]
        with self.builder() as builder:
            fetched = plain(specs, access, self.data, self.recorder, builder)
            self.attempts = fetched.attempts
            self.data.unlink()
            return builder.finish(fetched.image, self.finishing, keep_times=self.keep_times, verity=self.verity)

    def of(self, tars: Sequence[bytes]) -> bytes:
        """The image's bytes for these layers, base first; no file of it stays."""
        archive = write_archive(
            self.where / "image.oci", Image([Layer(tar, "none") for tar in tars], architecture=HERE)
        )
        self.make(archive)
        made = self.image.read_bytes()
        self.image.unlink()
        archive.unlink()
        return made
