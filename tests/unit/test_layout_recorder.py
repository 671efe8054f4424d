"""Blobs kept for the next kernel where more than one source was tried."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootc_live.base.log import Recorder
from bootc_live.base.peekable import PeekableStream
from bootc_live.config.source_spec import parse_source
from bootc_live.formats.cpio import read_headers
from bootc_live.pipeline import fetch
from bootc_live.rootfs.boot_files.extract import BootArtifacts, boot_file_recipe
from bootc_live.source.access import Access
from tests.lib.acquiring import QUICK
from tests.lib.oci_writer import Image, Layer, write_archive, write_layout
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer
from tests.unit.test_extract_boot_files import MIB, TREE, image, read

KERNEL_LAYER, NOISE_LAYER = layer(*TREE), layer(file("noise", random.Random(7).randbytes(9 * MIB + 77)))
IMAGE = image(KERNEL_LAYER, NOISE_LAYER)


@contextmanager
def taken(where: Path, *sources: Path) -> Iterator[BootArtifacts]:
    work = where / "work"
    work.mkdir()
    access = Access(lambda _: None, policy=QUICK, directory=str(work))
    specs = [parse_source(str(source)) for source in sources]
    recorder = Recorder(quiet=True)
    with boot_file_recipe(str(work), recorder, "a") as recipe:
        yield recipe.extract(fetch(specs, access, recipe, recorder))


def damaged(where: Path, what: Image) -> Path:
    """A layout in which some bytes of the smaller layer are wrong."""
    layout = write_layout(where / "damaged", what)
    blob = sorted((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)[-2]
    content = blob.read_bytes()
    blob.write_bytes(content[:-9000] + bytes(9000))
    return layout


def read_once(where: Path, what: Image) -> Path:
    plain, packed = write_archive(where / "image.oci", what), where / "image.oci.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes(), 0))
    return packed


def names(found: BootArtifacts) -> list[str]:
    """What the kernel unpacks; it gives up at what is neither an archive nor zeros."""
    assert found.layout is not None
    feed = PeekableStream(found.layout.chunks())
    listed = [member.name for member in read_headers(feed)]
    assert not feed.peek(1)
    return listed


def test_layers_that_unpack_to_the_same_are_there_once(tmp_path: Path) -> None:
    """Whatever packed them: only one of them is fetched, and nothing is missing."""
    noise = layer(file("noise", random.Random(9).randbytes(MIB)))
    twice = Image([Layer(noise, "gzip"), Layer(KERNEL_LAYER, "none"), Layer(noise, "none")], architecture=HERE)
    with taken(tmp_path, write_layout(tmp_path / "twice", twice)) as found:
        assert found.layout is not None
        assert found.layout.missing == frozenset()
        assert sum("/blobs/" in name and name.count("/") == 3 for name in names(found)) == 4


def test_blobs_of_another_image_are_not_handed_on(tmp_path: Path) -> None:
    other = image(KERNEL_LAYER, layer(file("other", "x")))
    with taken(tmp_path, damaged(tmp_path, IMAGE), read_once(tmp_path, other)) as found:
        assert len(found.attempts) == 2
        assert found.layout is None


def test_what_came_in_part_leaves_nothing_behind(tmp_path: Path) -> None:
    """The first source ends inside a layer, the second one has no blobs to keep."""
    with taken(tmp_path, damaged(tmp_path, IMAGE), read_once(tmp_path, IMAGE)) as found:
        assert read(found)[0].startswith(b"MZ")
        assert found.layout is not None
        assert found.layout.missing
        kept = {f"a/blobs/{digest.replace(':', '/')}" for digest in found.layout.missing}
        assert not kept & set(names(found))


def test_the_next_image_takes_the_place(tmp_path: Path) -> None:
    other = image(KERNEL_LAYER, layer(file("other", "x")), layer(file("more", random.Random(8).randbytes(MIB))))
    good = write_layout(tmp_path / "good", other)
    with taken(tmp_path, damaged(tmp_path, IMAGE), good) as found:
        assert found.layout is not None
        assert found.layout.digest == found.image.manifest_digest
        blobs = {part.digest for part in found.image.manifest.layers} - found.layout.missing
        assert {f"a/blobs/{digest.replace(':', '/')}" for digest in blobs} <= set(names(found))
