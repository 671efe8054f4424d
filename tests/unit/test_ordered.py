"""Layers that are consumed as they come: whatever goes wrong on the way, the image is the one it should be."""

from __future__ import annotations

import gzip
import os
import random
import shutil
from pathlib import Path

import pytest

from bootc_live.base.errors import ImageError, SourceError
from bootc_live.config.model import Compression as Packed
from tests.lib.archive_members import oci_members, tar_of
from tests.lib.building import Building
from tests.lib.docker_writer import STYLES, Saved, Style, docker_members
from tests.lib.oci_writer import Compression, Image, Layer, compress, sha256, write_layout
from tests.lib.small_image import HERE
from tests.lib.tar_writer import directory, file, hardlink, layer
from tests.lib.threads import no_thread_left

NOISE = random.Random(6)
EVIL = NOISE.randbytes(5000)


def tar(name: str, size: int = 300_000) -> bytes:
    """A layer with a directory and two files."""
    data = NOISE.randbytes(size // 2) + bytes(size // 2)
    return layer(directory(f"{name}/"), file(f"{name}/one", data), file("same", f"of {name}"), file(f"{name}/two", "x"))


A, B, C, D = tar("a"), tar("b"), tar("c"), tar("d")
TARS = (A, B, C, D)


def image(*layers: bytes | Layer) -> Image:
    parts = [part if isinstance(part, Layer) else Layer(part, "none") for part in layers]
    return Image(parts, architecture=HERE)


def blob_path(layout: Path, blob: bytes) -> Path:
    return layout / "blobs/sha256" / sha256(blob).partition(":")[2]


def without(layout: Path, *tars: bytes) -> Path:
    """The layout with blobs that nobody can use: whoever fetches one of them fails."""
    for blob in tars:
        blob_path(layout, blob).write_bytes(b"bad")
    return layout


def cut(layout: Path, blob: bytes) -> Path:
    """The layout with a blob that ends in its middle."""
    os.truncate(blob_path(layout, blob), len(blob) // 2)
    return layout


def digest(where: Path, *sources: Path, compression: Packed = Packed.LZ4) -> str:
    """The digest of what the sources make; nothing of it stays."""
    place = where / "made"
    place.mkdir()
    with no_thread_left():
        made = Building(place, compression).make(*sources)
    assert os.listdir(place) == ["root.erofs"]
    shutil.rmtree(place)
    assert made.sha256 is not None
    return made.sha256


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the image of all four layers, made without any trouble."""
    where = tmp_path_factory.mktemp("wanted")
    return digest(where, write_layout(where / "good", image(*TARS)))


def fresh(where: Path, *layers: bytes) -> str:
    """The digest of the image of these layers, made without any trouble."""
    return digest(where, write_layout(where / "fresh", image(*layers)))


@pytest.mark.parametrize("broken", range(4))
def test_a_second_source_goes_on(broken: int, wanted: str, tmp_path: Path) -> None:
    """It is asked for nothing that the first one finished."""
    first = cut(write_layout(tmp_path / "first", image(*TARS)), TARS[broken])
    second = without(write_layout(tmp_path / "second", image(*TARS)), *TARS[:broken])
    assert digest(tmp_path, first, second) == wanted


def test_three_sources_share_the_work(wanted: str, tmp_path: Path) -> None:
    places = [write_layout(tmp_path / name, image(*TARS)) for name in ("one", "two", "three")]
    for place, keeps in zip(places, ((A,), (B, C), (D,)), strict=True):
        without(place, *(blob for blob in TARS if blob not in keeps))
    assert digest(tmp_path, *places) == wanted


def test_in_order(tmp_path: Path) -> None:
    """Base first, though the largest layer is the last."""
    layers = (A, B, tar("large", 3_000_000))
    first = without(write_layout(tmp_path / "first", image(*layers)), layers[0])
    second = without(write_layout(tmp_path / "second", image(*layers)), *layers[1:])
    with pytest.raises(SourceError, match=rf"1\. .*layer 0 .*2\. .*layer 1 \({sha256(B)}\)"):
        digest(tmp_path, first, second)


@pytest.mark.parametrize("compressed", ["gzip", "zstd", "none"])
def test_compression_makes_no_difference(compressed: Compression, wanted: str, tmp_path: Path) -> None:
    parts = [Layer(blob, compressed) for blob in TARS]
    assert digest(tmp_path, write_layout(tmp_path / "layout", image(*parts))) == wanted


OTHERS = {
    "shares nothing": (C,),
    "shares the base": (A, C),
    "shares all that was finished": (A, B, D),
    "is shorter": (A,),
    "has the same in another order": (B, A, D),
    "has the base once more": (A, B, A),
    "has a finished layer twice at once": (A, A),
    "begins with another": (C, A, B),
}


@pytest.mark.parametrize("kind", ["layout", "stream", "docker"])
@pytest.mark.parametrize("case", OTHERS)
def test_the_fallback_is_another_image(case: str, kind: str, tmp_path: Path) -> None:
    """Of the first image, base and second layer were finished."""
    first = cut(write_layout(tmp_path / "first", image(A, B, C)), C)
    layers = OTHERS[case]
    if kind == "layout":
        second = write_layout(tmp_path / "second", image(*layers))
        if layers[:2] == (A, B) and A not in layers[2:]:
            without(second, A, B)
    else:
        members = docker_members("save", Saved(layers)) if kind == "docker" else oci_members(image(*layers))
        second = tmp_path / "second.oci"
        second.write_bytes(gzip.compress(tar_of(members), 1))
    assert digest(tmp_path, first, second) == fresh(tmp_path, *layers)


@pytest.mark.parametrize("kind", ["stream", "docker"])
def test_the_same_image_as_a_stream(kind: str, wanted: str, tmp_path: Path) -> None:
    first = cut(write_layout(tmp_path / "first", image(*TARS)), C)
    second = tmp_path / "second.oci"
    members = docker_members("ggcr", Saved(TARS)) if kind == "docker" else oci_members(image(*TARS))
    second.write_bytes(gzip.compress(tar_of(members), 1))
    assert digest(tmp_path, first, second) == wanted


def test_what_a_stream_brought_is_used(wanted: str, tmp_path: Path) -> None:
    members = oci_members(image(*TARS))
    packed = gzip.compress(tar_of(members), 0)
    first = tmp_path / "first.oci"
    # It ends in the middle of the last of the layers that stand in it.
    last = max(TARS, key=lambda blob: packed.index(blob[2000:2300]))
    first.write_bytes(packed[: packed.index(last[2000:2300])])
    second = without(write_layout(tmp_path / "second", image(*TARS)), *(blob for blob in TARS if blob != last))
    assert digest(tmp_path, first, second) == wanted


@pytest.mark.parametrize("style", STYLES)
def test_docker_archives(style: Style, wanted: str, tmp_path: Path) -> None:
    for name, pack in (("plain", bytes), ("packed", lambda data: gzip.compress(data, 1))):
        archive = tmp_path / name
        archive.write_bytes(pack(tar_of(docker_members(style, Saved(TARS)))))
        assert digest(tmp_path, archive) == wanted


def test_a_layer_that_stands_twice_is_fetched_once(tmp_path: Path) -> None:
    layers = (A, B, A, A, C)
    packings: tuple[Compression, ...] = ("none", "none", "gzip", "zstd", "none")
    packed = [Layer(blob, how) for blob, how in zip(layers, packings, strict=True)]
    layout = write_layout(tmp_path / "layout", image(*packed))
    # Of the three ways it is packed in, the last one is asked for.
    without(layout, A, compress(A, "gzip"))
    assert digest(tmp_path, layout) == fresh(tmp_path, *layers)


def test_twice_and_a_failure_between(tmp_path: Path) -> None:
    """What was kept for its second turn is still there for the next source."""
    layers = (A, B, A, C)
    first = cut(write_layout(tmp_path / "first", image(*layers)), B)
    second = without(write_layout(tmp_path / "second", image(*layers)), A)
    assert digest(tmp_path, first, second) == fresh(tmp_path, *layers)


def evil_image(what: str) -> Image:
    """An image that claims the good layers, one of which has another content."""
    content = layer(file("evil", EVIL), file("b/one", EVIL))
    if what == "blob":
        padded = content.ljust(len(B), b"\0")
        return image(A, Layer(B, "none", padded, digest=sha256(B), size=len(B)), C, D)
    packing: Compression = "gzip" if what == "gzip" else "none"
    return image(A, Layer(content, packing, diff_id=sha256(B)), C, D)


@pytest.mark.parametrize("what", ["blob", "none", "gzip"])
def test_unverified_bytes_do_not_stay(what: str, wanted: str, tmp_path: Path) -> None:
    """All of the layer has been read by the time its digest turns out to be wrong."""
    first = write_layout(tmp_path / "first", evil_image(what))
    second = without(write_layout(tmp_path / "second", image(*TARS)), A)
    assert digest(tmp_path, first, second) == wanted
    place = tmp_path / "alone"
    place.mkdir()
    with pytest.raises(ImageError, match=r"layer 1 .*(diffID|digest) sha256"):
        Building(place).make(first)
    assert os.listdir(place) == []


WRONG = {
    "no tar": EVIL,
    "ends early": layer(file("evil", EVIL, size=9000))[:7000],
    "a link to nothing": layer(file("evil", EVIL), hardlink("l", "missing"), file("more", EVIL)),
    "a file for a directory": layer(file("f", EVIL), file("f/g", EVIL)),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_layer_that_cannot_be_used(case: str, wanted: str, tmp_path: Path) -> None:
    """Its digest is right; the image is its maker's fault, but the next source's image is not."""
    first = write_layout(tmp_path / "first", image(A, B, WRONG[case], C))
    assert digest(tmp_path, first, write_layout(tmp_path / "second", image(*TARS))) == wanted
    place = tmp_path / "alone"
    place.mkdir()
    with pytest.raises(ImageError, match=r"layer 2 \(sha256:[0-9a-f]+\) of '/.*/first' cannot be used: "):
        Building(place).make(first)
    assert os.listdir(place) == []
