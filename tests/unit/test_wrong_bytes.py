"""A place that gives wrong bytes costs one try, whatever these bytes do before their digest is known."""

from __future__ import annotations

import errno
import gzip
import os
import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from bootc_live.base.errors import AdmissionError, ImageError, OutOfMemoryError
from bootc_live.base.log import Recorder
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.image.fetch import fetch_layers
from bootc_live.image.layout_recorder import LayoutRecorder
from bootc_live.image.resolve import Wanted, resolve_image
from bootc_live.image.sink import DataFile
from bootc_live.image.store.layer_store import LayerStore, Slot, layer_store
from bootc_live.image.verified import VerifiedImage
from bootc_live.source.archive.files import DirectoryFiles
from bootc_live.source.archive.layout import LayoutSource
from bootc_live.system.inflate import confined
from bootc_live.system.inflate.gzip import GzipDecoder
from tests.lib.acquiring import contents, streamed
from tests.lib.archive_members import tar_of
from tests.lib.building import Building
from tests.lib.docker_writer import Saved, docker_members
from tests.lib.oci_writer import Compression, Image, Layer, compress, sha256, write_layout
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

MIB = 2**20
NOISE = random.Random(7)
TARS = [layer(file("small", NOISE.randbytes(30_000))), layer(file("large", NOISE.randbytes(3 * MIB // 2)))]


class TwoPlaces(LayoutSource):
    """An image with a mirror; `asked` says how often that was."""

    def __init__(self, mirror: Path, registry: Path) -> None:
        super().__init__(DirectoryFiles(str(registry), "source"), "source", None)
        self._mirror: LayoutSource | None = LayoutSource(DirectoryFiles(str(mirror), "source"), "source", None)
        self.asked: list[str] = []
        self.found = threading.Event()

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        opened = super().open_blob if self._mirror is None else self._mirror.open_blob
        self.asked.append("registry" if self._mirror is None else "mirror")
        with opened(descriptor) as chunks:
            yield chunks

    def distrust(self, descriptor: Descriptor) -> bool:
        had, self._mirror = self._mirror is not None, None
        self.found.set()
        assert descriptor.size
        return had


def places(where: Path, how: Compression, **lies: bytes) -> TwoPlaces:
    """The mirror has these bytes for the layers that are named."""
    image = Image([Layer(tar, how) for tar in TARS], architecture=HERE)
    good, mirror = (write_layout(where / name, image) for name in ("registry", "mirror"))
    for name, lie in lies.items():
        blob = compress(TARS[("small", "large").index(name)], how)
        (mirror / "blobs/sha256" / sha256(blob).partition(":")[2]).write_bytes(lie)
    return TwoPlaces(mirror, good)


def bomb(size: int) -> bytes:
    """Far more than there is room for, padded to the size of what it stands for."""
    packed = gzip.compress(bytes(20 * MIB), 9)
    return packed + bytes(size - len(packed))


def lie(tar: bytes, how: Compression, what: str) -> bytes:
    blob = compress(tar, how)
    return {
        "bomb": bomb(len(blob)) if len(blob) > 25_000 else b"",
        "garbage": NOISE.randbytes(len(blob)),
        "cut": blob[:-1],
        "more": blob + b"x",
        "other": blob[:-1] + bytes([blob[-1] ^ 1]),
    }[what]


@contextmanager
def room(size: int) -> Iterator[None]:
    """No layer can grow beyond `size` within the block: as good as a full file system."""
    with patch.dict(confined.DECODERS, gzip=lambda buffer: Limited(GzipDecoder(buffer), size)):
        yield


class Limited:
    """A decoder whose output finds no space."""

    def __init__(self, decoder: confined.Decoder, size: int) -> None:
        self._decoder, self._left = decoder, size
        self.end = decoder.end

    def decode(self, data: memoryview) -> Iterator[memoryview | bytes]:
        for piece in self._decoder.decode(data):
            self._left -= len(piece)
            if self._left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            yield piece


def fetched(source: TwoPlaces, where: Path) -> tuple[VerifiedImage, list[str]]:
    recorder = Recorder(quiet=True)
    with layer_store(str(where / "data")) as store:
        image = fetch_layers(source, resolve_image(source), store, recorder, DataFile())
    return image, recorder.warnings


@pytest.mark.parametrize("what", ["bomb", "garbage", "cut", "more", "other"])
@pytest.mark.parametrize(("liar", "how"), [("small", "gzip"), ("large", "gzip"), ("large", "zstd"), ("small", "none")])
def test_the_next_place_has_its_turn(liar: str, how: Compression, what: str, tmp_path: Path) -> None:
    tar = TARS[("small", "large").index(liar)]
    source = places(tmp_path, how, **{liar: lie(tar, how, what)})
    image, warnings = fetched(source, tmp_path)
    assert contents(image) == TARS
    assert len(warnings) == 1
    assert "it must be" in warnings[0] or "manifest gives" in warnings[0]
    assert warnings[0].endswith("continuing without that server")


@pytest.mark.parametrize("liar", ["small", None])
def test_memory_that_wrong_bytes_took_is_no_lack_of_memory(
    liar: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The honest layer may be the first that finds no room, and tries once more when the liar's bytes are gone."""
    source = places(tmp_path, "none", **({liar: b"x"} if liar else {}))
    full = [OutOfMemoryError("no space left", hint="")]

    class Store(LayerStore):
        def inflate(self, slot: Slot, chunks: Iterator[bytes], *rest: Any) -> tuple[str, int]:
            # The larger layer has more than half of the data file.
            if slot.size > 2**40 and full:
                source.found.wait(0.2)
                raise full.pop()
            return super().inflate(slot, chunks, *rest)

    monkeypatch.setattr("bootc_live.image.store.layer_store.LayerStore", Store)
    monkeypatch.setattr("bootc_live.image.fetch.workers", lambda *_: 2)
    if liar is None:
        with pytest.raises(OutOfMemoryError):
            fetched(source, tmp_path)
        return
    assert contents(fetched(source, tmp_path)[0]) == TARS


def test_a_bomb_that_meets_the_limit(tmp_path: Path) -> None:
    tar = TARS[1]
    image = Image([Layer(tar, "gzip")], architecture=HERE)
    good, mirror = (write_layout(tmp_path / name, image) for name in ("registry", "mirror"))
    blob = compress(tar, "gzip")
    (mirror / "blobs/sha256" / sha256(blob).partition(":")[2]).write_bytes(bomb(len(blob)))
    with room(len(tar) + MIB):
        found, warnings = fetched(TwoPlaces(mirror, good), tmp_path)
    assert contents(found) == [tar]
    assert len(warnings) == 1
    assert os.stat(found.path).st_blocks * 512 < len(tar) + MIB


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_a_decoder_that_has_read_all_and_is_not_done(
    how: Compression, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who feeds it has found the digest wrong by then, and is gone."""

    class Late(Limited):
        def decode(self, _data: memoryview) -> Iterator[memoryview | bytes]:
            yield from ()

        def end(self) -> None:
            os.write(1, bytes(8 * MIB))
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(confined.DECODERS, how, lambda room: Late(GzipDecoder(room), 0))
    image = Image([Layer(TARS[1], how)], architecture=HERE)
    good, mirror = (write_layout(tmp_path / name, image) for name in ("registry", "mirror"))
    blob = compress(TARS[1], how)
    wrong = blob[:-9] + bytes(9)
    (mirror / "blobs/sha256" / sha256(blob).partition(":")[2]).write_bytes(wrong)
    source = TwoPlaces(mirror, good)
    monkeypatch.setattr(source, "distrust", lambda _: False)
    with pytest.raises(ImageError, match="it must be"):
        fetched(source, tmp_path)


def test_right_bytes_that_do_not_fit_are_a_lack_of_memory(tmp_path: Path) -> None:
    source = places(tmp_path, "gzip")
    with room(8192), pytest.raises(OutOfMemoryError):
        fetched(source, tmp_path)
    assert "registry" not in source.asked


def test_all_places_lie(tmp_path: Path) -> None:
    source = places(tmp_path, "gzip", small=b"x")
    blob = sha256(compress(TARS[0], "gzip")).partition(":")[2]
    (tmp_path / "registry/blobs/sha256" / blob).write_bytes(b"y")
    with pytest.raises(ImageError, match="has 1 bytes, its manifest gives"):
        fetched(source, tmp_path)


def test_a_config_too(tmp_path: Path) -> None:
    source = places(tmp_path, "gzip")
    layers = {sha256(compress(tar, "gzip")).partition(":")[2] for tar in TARS}
    for path in (tmp_path / "mirror/blobs/sha256").iterdir():
        if path.name not in layers:
            path.write_bytes(b"{}")
    assert contents(fetched(source, tmp_path)[0]) == TARS


@pytest.mark.parametrize("what", ["bomb", "other"])
def test_layers_that_are_consumed_as_they_come(what: str, tmp_path: Path) -> None:
    """The consumer forgets what it saw of the wrong bytes, and what is kept for a next kernel is right."""
    source = places(tmp_path, "gzip", large=lie(TARS[1], "gzip", what))
    wanted = Building(new(tmp_path / "a")).make(tmp_path / "registry").sha256
    recorder = Recorder(quiet=True)
    building = Building(new(tmp_path / "b"))
    with building.builder() as builder, layer_store(str(building.data)) as store:
        known = Wanted()
        resolved = resolve_image(source, known)
        with closing(LayoutRecorder(str(tmp_path / "blobs"), "x")) as keeper:
            kept = keeper.wrap(source, resolved, known.known)
            image = fetch_layers(kept, resolved, store, recorder, builder)
            layout = keeper.finish(resolved)
        assert builder.finish(image).sha256 == wanted
    assert layout is not None
    assert not layout.missing
    assert b"".join(layout.chunks()).count(compress(TARS[1], "gzip")) == 1
    assert len(recorder.warnings) == 1


def test_a_stream_whose_layer_cannot_be_told_is_the_end_of_that_source_alone(tmp_path: Path) -> None:
    """A docker-archive names no digests: that its bytes fill memory says nothing of the image that was meant."""
    members = docker_members("ggcr", Saved([layer(file("zeros", bytes(3 * MIB)))]))
    with room(MIB), pytest.raises(AdmissionError):
        streamed(gzip.compress(tar_of(members)), tmp_path / "data")


def new(directory: Path) -> Path:
    directory.mkdir()
    return directory
