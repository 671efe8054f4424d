"""Archives as streams: right whatever the order of their members, and nothing of what is not needed is kept."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError, ImageError, SourceError
from bootc_live.formats.oci.manifest import MOST_LAYERS
from bootc_live.formats.oci.platform import machine_platform
from bootc_live.image.detached import Beside
from bootc_live.image.fetch_stream import resolve_stream
from bootc_live.image.resolve import Wanted
from tests.lib.acquiring import Streamed, acquired, allocated, contents, streamed
from tests.lib.archive_members import Link, Members, oci_members, tar_of
from tests.lib.docker_writer import STYLES, Saved, Style, docker_members
from tests.lib.oci_writer import Compression, Image, Index, Layer, compress, sha256
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

NOISE = random.Random(3)
TARS = [layer(file("one", NOISE.randbytes(700))), layer(file("two", NOISE.randbytes(9000)))]
WRONG = "sha256:" + "0" * 64
PAGES = 64 * 1024


def image(*tars: bytes, ref: str | None = "latest", how: Compression = "gzip", architecture: str = HERE) -> Image:
    return Image([Layer(tar, how) for tar in tars or TARS], ref, architecture)


def blob_of(data: bytes) -> str:
    return f"blobs/sha256/{sha256(data).partition(':')[2]}"


def permuted(members: Members) -> list[bytes]:
    return [tar_of(order) for order in itertools.permutations(members.items())]


def failure(archive: bytes, tmp_path: Path, label: str | None = None, wanted: Wanted | None = None) -> BootcLiveError:
    """The error; it names the archive, and no data file is left."""
    with pytest.raises(BootcLiveError) as caught:
        streamed(archive, tmp_path / "data", label, wanted)
    assert not (tmp_path / "data").exists()
    assert "'/typed.oci'" in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("how", ["gzip", "none"])
def test_oci_members_in_every_order(how: Compression, tmp_path: Path) -> None:
    members = oci_members(image(how=how))
    del members["oci-layout"]
    orders = permuted(members)
    assert len(orders) == 120
    # Each layer starts a program where it is compressed.
    for archive in orders if how == "none" else orders[::11]:
        assert streamed(archive, tmp_path / "data")[0] == TARS


def test_docker_members_in_every_order(tmp_path: Path) -> None:
    """The second of two equal layers is a link, which may well come before what it links to."""
    tars = [TARS[0], TARS[1], TARS[0]]
    every = docker_members("save", Saved(tars))
    members = {name: every[name] for name in every if name.endswith(("layer.tar", ".json"))}
    assert len([name for name, content in members.items() if isinstance(content, Link)]) == 1
    for archive in permuted(members):
        assert streamed(archive, tmp_path / "data")[0] == tars


@pytest.mark.parametrize("prefix", ["", "./"])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_styles_of_docker_archives(style: Style, backwards: bool, prefix: str, tmp_path: Path) -> None:
    tars = [TARS[0], TARS[1], TARS[0]]
    members = docker_members(style, Saved(tars))
    pairs = list(members.items())
    archive = tar_of(reversed(pairs) if backwards else pairs, prefix)
    found, made = streamed(archive, tmp_path / "data")
    assert found == tars
    assert (made.resolved.manifest_digest is None) == (style != "moby")
    (tmp_path / "a.tar").write_bytes(archive)
    assert contents(acquired(tmp_path / "data", str(tmp_path / "a.tar"))) == tars


@pytest.mark.parametrize("style", ["oci", *STYLES])
@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_whole_archive_compressed(how: Compression, style: Style, tmp_path: Path) -> None:
    members = oci_members(image()) if str(style) == "oci" else docker_members(style, Saved(TARS))
    path = tmp_path / "a"
    path.write_bytes(compress(tar_of(members), how))
    assert contents(acquired(tmp_path / "data", str(path))) == TARS


def test_compressed_in_several_members(tmp_path: Path) -> None:
    """What pigz, bgzip or cat make: gzip members one after the other (RFC 1952, 2.2)."""
    archive = tar_of(oci_members(image()))
    parts = [gzip.compress(archive[begin : begin + 4000]) for begin in range(0, len(archive), 4000)]
    assert streamed(b"".join(parts), tmp_path / "data")[0] == TARS


@pytest.mark.parametrize("piece", [1, 2, 3, 511, 513])
def test_bytes_may_come_in_any_pieces(piece: int, tmp_path: Path) -> None:
    for archive in (tar_of(oci_members(image())), gzip.compress(tar_of(oci_members(image())))):
        made = Streamed(archive, piece).fetch(tmp_path / "data")
        assert contents(made) == TARS
        (tmp_path / "data").unlink()


SEVERAL = [(style, label) for style in ("oci", *STYLES) for label in ("one", "two", "registry.example/os:two")]


# The index of Docker's has tags alone.
@pytest.mark.parametrize(("style", "label"), [row for row in SEVERAL if row != ("moby", "registry.example/os:two")])
def test_several_images(style: str, label: str, tmp_path: Path) -> None:
    made = {"one": TARS[:1], "two": TARS[1:]}
    if style == "oci":
        members = oci_members(*(image(*tars, ref=f"registry.example/os:{tag}") for tag, tars in made.items()))
    else:
        saved = [Saved(tars, (f"registry.example/os:{tag}",)) for tag, tars in made.items()]
        members = docker_members(style, *saved)  # type: ignore[arg-type]
    for pairs in (list(members.items()), list(members.items())[::-1]):
        assert streamed(tar_of(pairs), tmp_path / "data", label)[0] == made[label.rpartition(":")[2]]
    error = failure(tar_of(members), tmp_path, "three")
    assert "no image called 'three'" in error.message
    assert "bootclabel=" in error.hint


def test_images_without_names(tmp_path: Path) -> None:
    assert streamed(tar_of(docker_members("save", Saved(TARS, ()))), tmp_path / "data")[0] == TARS
    two = docker_members("skopeo", Saved(TARS[:1], ()), Saved(TARS[1:], ()))
    assert "without names" in failure(tar_of(two), tmp_path).message


@pytest.mark.parametrize("nested", [True, False])
def test_platforms(nested: bool, tmp_path: Path) -> None:
    """The others' layers come first and are dropped."""
    others = [image(layer(file("other", NOISE.randbytes(300_000))), ref="v1", architecture="s390x")]
    every = [*others, image(ref="v1")]
    members = oci_members(Index(every, "v1")) if nested else oci_members(*every)
    for pairs in (list(members.items()), list(members.items())[::-1]):
        made = Streamed(tar_of(pairs)).fetch(tmp_path / "data", "v1")
        assert contents(made) == TARS
        assert allocated(tmp_path / "data") < PAGES
        (tmp_path / "data").unlink()
    members = oci_members(Index(others, "v1"))
    assert "its index has: linux/s390x" in failure(tar_of(members), tmp_path, "v1").message


def test_another_machine(tmp_path: Path) -> None:
    for members in (
        oci_members(image(architecture="s390x")),
        docker_members("save", Saved(TARS, architecture="s390x")),
    ):
        archive = tar_of(members)
        assert "is made for linux/s390x, this machine is" in failure(archive, tmp_path).message
        assert streamed(archive, tmp_path / "data", None, Wanted(machine_platform("s390x")))[0] == TARS


@pytest.mark.parametrize("name", ["{", "[", "{}", '{"manifests": []}'])
def test_layers_that_look_like_json(name: str, tmp_path: Path) -> None:
    tars = [layer(file(name, b"first")), TARS[0], layer(file(name, b"last"))]
    oci = oci_members(image(*tars, how="none"))
    docker = docker_members("save", Saved(tars))
    for members in (oci, docker):
        for pairs in (list(members.items()), list(members.items())[::-1], sorted(members.items())):
            assert streamed(tar_of(pairs), tmp_path / "data")[0] == tars


def test_layers_that_are_json(tmp_path: Path) -> None:
    """No tar at all: here it only matters that they are what the config says."""
    texts = [b"{}", b'{"a": 1}', b" [", b""]
    members = oci_members(image(*texts, how="none"))
    for pairs in (list(members.items()), list(members.items())[::-1]):
        assert streamed(tar_of(pairs), tmp_path / "data")[0] == texts


@pytest.mark.parametrize("how", ["gzip", "none"])
def test_layers_that_stand_twice(how: Compression, tmp_path: Path) -> None:
    tars = [TARS[1], TARS[0], TARS[1], TARS[1]]
    for pairs in (list(oci_members(image(*tars, how=how)).items()),):
        found, made = streamed(tar_of(pairs[::-1]), tmp_path / "data")
        assert found == tars
        assert made.layers[0] == made.layers[2] == made.layers[3]
        assert made.size == len(TARS[0]) + len(TARS[1])


def test_one_layer_compressed_in_two_ways(tmp_path: Path) -> None:
    """Two blobs with one diffID: one of them is enough."""
    tars = [TARS[0], TARS[1], TARS[0]]
    layers = [Layer(TARS[0], "gzip"), Layer(TARS[1]), Layer(TARS[0], "none")]
    assert streamed(tar_of(oci_members(Image(layers, architecture=HERE))), tmp_path / "data")[0] == tars


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("style", ["oci", "save"])
def test_members_that_nobody_needs_do_not_stay(style: str, place: str, tmp_path: Path) -> None:
    big = NOISE.randbytes(3 * 2**20)
    more: Members = {"notes": big, "blobs/sha256/" + "1" * 64: gzip.compress(big, 1), "empty": b""}
    members = oci_members(image()) if style == "oci" else docker_members("save", Saved(TARS))
    archive = tar_of({**more, **members} if place == "first" else {**members, **more})
    made = Streamed(archive).fetch(tmp_path / "data")
    assert contents(made) == TARS
    assert allocated(tmp_path / "data") < PAGES


def test_what_comes_after_the_image_is_not_read(tmp_path: Path) -> None:
    members = oci_members(image())
    archive = tar_of({**members, "notes": bytes(50 * 2**20)})
    read = []

    class Counting(Streamed):
        def _pieces(self):  # type: ignore[no-untyped-def] # noqa: ANN202
            for piece in super()._pieces():
                read.append(len(piece))
                yield piece

    assert contents(Counting(archive).fetch(tmp_path / "data")) == TARS
    assert sum(read) <= 3 * 2**20


@pytest.mark.parametrize("junk", [b"\x1f\x8bgarbage", b"\x28\xb5\x2f\xfdgarbage", b"{", b"", b"\x1f"])
def test_damage_that_does_not_matter(junk: bytes, tmp_path: Path) -> None:
    more: Members = {"junk": junk, blob_of(b"other"): junk, "manifest.json": junk}
    for members in ({**more, **oci_members(image())}, {**oci_members(image()), **more}):
        assert streamed(tar_of(members), tmp_path / "data")[0] == TARS
        assert streamed(gzip.compress(tar_of(members)), tmp_path / "data")[0] == TARS


def flip(data: bytes) -> bytes:
    return data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]


CHANGES: tuple[Callable[[bytes], bytes], ...] = (
    flip,
    lambda data: data[:-9],
    lambda data: data + b"\0",
    lambda _: b"",
    lambda _: b"x",
)


@pytest.mark.parametrize("change", CHANGES, ids=["flipped", "short", "long", "empty", "junk"])
@pytest.mark.parametrize(("how", "place"), [("gzip", "first"), ("none", "last"), ("zstd", "last")])
def test_damaged_layer(how: Compression, change: Callable[[bytes], bytes], place: str, tmp_path: Path) -> None:
    members = oci_members(image(how=how))
    name = blob_of(compress(TARS[1], how))
    data = members.pop(name)
    assert isinstance(data, bytes)
    damaged: Members = {name: change(data)}
    error = failure(tar_of({**damaged, **members} if place == "first" else {**members, **damaged}), tmp_path)
    assert isinstance(error, ImageError)
    assert name in error.message


@pytest.mark.parametrize("style", STYLES)
def test_wrong_layer_of_a_docker_archive(style: Style, tmp_path: Path) -> None:
    """There is nothing but the diffID to tell."""
    archive = tar_of(docker_members(style, Saved(TARS, diff_ids=[sha256(TARS[0]), WRONG])))
    error = failure(archive, tmp_path)
    assert isinstance(error, ImageError)
    assert f"unpacks to the diffID {sha256(TARS[1])}, the image config gives {WRONG}" in error.message
    (tmp_path / "a.tar").write_bytes(archive)
    with pytest.raises(ImageError, match=WRONG):
        acquired(tmp_path / "data", str(tmp_path / "a.tar"))


def test_small_parts_under_wrong_names(tmp_path: Path) -> None:
    for which, what in (
        (Image(image().layers, architecture=HERE, manifest_digest=WRONG), "the manifest"),
        (Image(image().layers, architecture=HERE, config_digest=WRONG), "the image config"),
    ):
        archive = tar_of(oci_members(which))
        assert f"{what} " in failure(archive, tmp_path).message


def test_layer_under_a_wrong_name(tmp_path: Path) -> None:
    layers = [Layer(TARS[0], digest=WRONG), Layer(TARS[1])]
    error = failure(tar_of(oci_members(Image(layers, architecture=HERE))), tmp_path)
    assert f"has the digest {sha256(compress(TARS[0], 'gzip'))}, it must be {WRONG}" in error.message


def test_missing_members(tmp_path: Path) -> None:
    members = oci_members(image())
    del members["oci-layout"]
    for name in members:
        archive = tar_of({other: content for other, content in members.items() if other != name})
        error = failure(archive, tmp_path)
        assert isinstance(error, SourceError)
        assert (name.rpartition("/")[2] if name != "index.json" else "it has no index.json") in error.message


@pytest.mark.parametrize("style", [style for style in STYLES if style != "moby"])
def test_missing_members_of_a_docker_archive(style: Style, tmp_path: Path) -> None:
    every = docker_members(style, Saved(TARS))
    manifest = every["manifest.json"]
    assert isinstance(manifest, bytes)
    (entry,) = json.loads(manifest)
    for name in ("manifest.json", entry["Config"], *entry["Layers"]):
        archive = tar_of({other: content for other, content in every.items() if other != name})
        path = tmp_path / "a.tar"
        path.write_bytes(archive)
        with pytest.raises(SourceError, match=f"does not contain '{name}'|no index.json"):
            acquired(tmp_path / "data", str(path))
        error = failure(archive, tmp_path)
        assert isinstance(error, SourceError)
        assert f"does not contain {name!r}" in error.message or "no index.json" in error.message


@pytest.mark.parametrize("count", [1024, 1025])
def test_number_of_layers_of_a_docker_archive(count: int, tmp_path: Path) -> None:
    """One tar many times is enough of them."""
    archive = tar_of(docker_members("save", Saved(TARS[:1] * count)))
    (tmp_path / "a.tar").write_bytes(archive)
    if count <= MOST_LAYERS:
        assert len(streamed(archive, tmp_path / "data")[0]) == count
        return
    with pytest.raises(SourceError, match="has 1025 layers, more than 1024"):
        acquired(tmp_path / "data", str(tmp_path / "a.tar"))
    assert "has 1025 layers, more than 1024" in failure(archive, tmp_path).message


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[", b"{}", b"7", b"null", b"[7]", b'[{"Config": 1}]', b"[" * 100_000),
        *(b'[{"Config": "a", "Layers": [], "layers": []}]', b'[{"Config": "a", "Config": "b", "Layers": []}]'),
    ],
)
def test_damaged_docker_manifest(content: bytes, tmp_path: Path) -> None:
    members = {**docker_members("save", Saved(TARS)), "manifest.json": content}
    (tmp_path / "a.tar").write_bytes(tar_of(members))
    with pytest.raises(SourceError, match=r"damaged manifest\.json|does not contain|no image called|no index.json"):
        acquired(tmp_path / "data", str(tmp_path / "a.tar"))
    assert isinstance(failure(tar_of(members), tmp_path), SourceError)


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.long)])
def test_cut_short_anywhere(every: int, tmp_path: Path) -> None:
    """Half an archive gives the image, if that was all there, or one error; never anything else."""
    members = oci_members(image(), Image([Layer(TARS[0])], "other", HERE))
    archive = tar_of(sorted(members.items(), reverse=True))
    for whole, step in ((archive, 301), (gzip.compress(archive), 211), (compress(archive, "zstd"), 1511)):
        right = 0
        sizes = range(0, len(whole), step * every)
        for size in sizes:
            with contextlib.suppress(BootcLiveError):
                found, _ = streamed(whole[:size], tmp_path / "data")
                right += 1
                assert found == TARS
            assert not list(tmp_path.iterdir())
        assert right < len(sizes)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x1f\x8b", b"not a tar" * 200, bytes(10_000), gzip.compress(b"text", mtime=0)]
)
def test_no_archive_at_all(content: bytes, tmp_path: Path) -> None:
    failure(content, tmp_path)


def test_looking_does_not_need_the_layers(tmp_path: Path) -> None:
    members = {name: content for name, content in oci_members(image()).items() if content != compress(TARS[1], "gzip")}
    assert len(resolve_stream(Streamed(tar_of(members)).source(), Wanted(), Beside()).image.manifest.layers) == len(
        TARS
    )
    assert not list(tmp_path.iterdir())


def test_a_failure_ends_the_transfer(tmp_path: Path) -> None:
    source = Streamed(tar_of(oci_members(image()))[:5000])
    with pytest.raises(BootcLiveError):
        source.fetch(tmp_path / "data")
    assert source.interrupted == 1


@pytest.mark.parametrize("named", [True, False])
def test_images_without_names_for_several_machines(named: bool, tmp_path: Path) -> None:
    """The one for this machine, by its config where the index does not tell, wherever its parts come."""
    other = "s390x" if HERE != "s390x" else "amd64"
    foreign, mine = image(TARS[0], ref=None, architecture=other), image(TARS[1], ref=None)
    members = list(oci_members(*(replace(one, name_platform=named) for one in (foreign, mine))).items())
    for turn in range(len(members)):
        assert streamed(tar_of(members[turn:] + members[:turn]), tmp_path / "data")[0] == TARS[1:2]
