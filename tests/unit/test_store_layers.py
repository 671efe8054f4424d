"""Layers that are made again of the objects in a store: the same bytes, or none that anybody uses."""

from __future__ import annotations

import hashlib
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_live.base.errors import SourceError
from bootc_live.base.log import Recorder
from bootc_live.config.source_spec import ArchiveFile
from bootc_live.rootfs.layouts.composefs import store as store_module
from bootc_live.rootfs.layouts.composefs.layers import StoredLayers, forget_layers
from bootc_live.rootfs.layouts.composefs.layout import store_root
from bootc_live.rootfs.layouts.composefs.metadata import object_path
from bootc_live.rootfs.layouts.composefs.store import node_digest
from bootc_live.rootfs.tree.node import Node
from bootc_live.source.access import Access
from tests.lib.fetching import fetched_archive, plain, quiet
from tests.lib.oci_writer import Image, Layer, compress, sha256, write_archive
from tests.lib.small_image import HERE
from tests.lib.storing import objects, stored
from tests.lib.tar_writer import directory, file, hardlink, layer, symlink

RANDOM = random.Random(1)
LARGE, SMALL, LONG = RANDOM.randbytes(300_000), b"small", RANDOM.randbytes(4096)
BASE = layer(
    directory("./"),
    directory("etc/"),
    file("etc/large", LARGE),
    file("etc/small", SMALL),
    hardlink("etc/other", "etc/large"),
    symlink("link", "etc/large"),
    file("hidden", RANDOM.randbytes(9000)),
    file("twice", LONG),
    file("empty", b""),
)
UPPER = layer(file(".wh.hidden", b""), file("again", LONG), file("etc/small", RANDOM.randbytes(5000)))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    stored(tmp_path / "store", (BASE, UPPER))
    return tmp_path / "store"


def made_again(layers: StoredLayers, diff_id: str) -> bytes | None:
    with layers.open_layer(diff_id) as pieces:
        return None if pieces is None else b"".join(pieces)


@pytest.mark.parametrize("tar", [BASE, UPPER, BASE + b"\0" * 100_000, b"\0" * 1024, layer()])
def test_same_bytes(tar: bytes, tmp_path: Path) -> None:
    store = tmp_path / "store"
    stored(store, (BASE, tar))
    layers = StoredLayers(str(store))
    assert layers.size(sha256(tar)) == len(tar)
    assert made_again(layers, sha256(tar)) == tar
    recipe = store / "layers" / sha256(tar).replace(":", "-")
    # What objects have is not there again.
    assert recipe.stat().st_size < 30_000


def test_unknown_layers(store: Path) -> None:
    layers = StoredLayers(str(store))
    assert (layers.size(sha256(b"x")), made_again(layers, sha256(b"x"))) == (None, None)


def test_objects_are_not_hashed_again(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade whose new layer is the only one that the source still has."""
    new = layer(file("new", RANDOM.randbytes(20_000)))
    made = Image([Layer(tar, "gzip") for tar in (BASE, UPPER, new)], architecture=HERE)
    gone = [f"blobs/sha256/{sha256(compress(tar, 'gzip')).partition(':')[2]}" for tar in (BASE, UPPER)]
    archive = write_archive(tmp_path / "new.oci", made, without=tuple(gone))
    layers = StoredLayers(str(store))
    access = Access(quiet, cache=layers)
    image = plain([ArchiveFile(str(archive), "x")], access, tmp_path / "data", Recorder(quiet=True)).image
    hashed: list[int] = []

    def counting(fd: int, node: Node) -> str:
        hashed.append(node.size)
        return node_digest(fd, node)

    monkeypatch.setattr(store_module, "node_digest", counting)
    root = store_root(image, str(store), reused=layers)
    assert (root.added, root.added_bytes) == (1, 20_000)
    # The metadata image is the other one.
    assert 20_000 in hashed
    assert len(hashed) == 2
    assert made_again(StoredLayers(str(store)), sha256(new)) == new
    # The same root comes of the whole image.
    whole = fetched_archive(write_archive(tmp_path / "whole.oci", made), "x", tmp_path / "whole")
    assert store_root(whole, str(tmp_path / "other")).digest == root.digest


def recipe(store: Path) -> Path:
    return store / "layers" / sha256(BASE).replace(":", "-")


def broken_object(store: Path) -> None:
    path = next(path for path in objects(store).values() if path.stat().st_size == len(LARGE))
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + b"x")


def short_object(store: Path) -> None:
    next(path for path in objects(store).values() if path.stat().st_size == len(LARGE)).unlink()


def longer_size(store: Path) -> None:
    content = zlib.decompress(recipe(store).read_bytes())
    recipe(store).write_bytes(zlib.compress(struct.pack("<Q", 2**62) + content[8:]))


def path_out(store: Path) -> None:
    digest = hashlib.sha256(b"no such object").hexdigest()
    content = struct.pack("<Q", 10) + struct.pack("<BQ", 1, 10) + bytes.fromhex(digest)
    recipe(store).write_bytes(zlib.compress(content))
    assert not (store / "objects" / object_path(digest)).exists()


@pytest.mark.parametrize(
    "harm",
    [
        broken_object,
        short_object,
        longer_size,
        path_out,
        lambda store: recipe(store).write_bytes(recipe(store).read_bytes()[:-20]),
        lambda store: recipe(store).write_bytes(b"no zlib"),
        lambda store: recipe(store).write_bytes(zlib.compress(b"short")),
        lambda store: recipe(store).write_bytes(b""),
    ],
)
def test_what_is_wrong_is_fetched(harm: Callable[[Path], object], store: Path, tmp_path: Path) -> None:
    harm(store)
    layers = StoredLayers(str(store))
    archive = write_archive(tmp_path / "x.oci", Image([Layer(tar, "gzip") for tar in (BASE, UPPER)], architecture=HERE))
    access = Access(quiet, cache=layers)
    image = plain([ArchiveFile(str(archive), "x")], access, tmp_path / "data", Recorder(quiet=True)).image
    assert image.layers[0].diff_id == sha256(BASE)
    assert sha256(BASE) not in layers.objects
    try:
        again = made_again(StoredLayers(str(store)), sha256(BASE))
    except SourceError:
        again = None
    assert again is None


def test_what_no_deployment_has_is_forgotten(store: Path) -> None:
    forget_layers(str(store), {sha256(UPPER)})
    layers = StoredLayers(str(store))
    assert (made_again(layers, sha256(BASE)), made_again(layers, sha256(UPPER))) == (None, UPPER)
    forget_layers(str(store / "nothing"), ())
