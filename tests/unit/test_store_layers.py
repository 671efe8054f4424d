"""Layers that are made again of the objects in a store: the same bytes, or none that anybody uses.

Those whose recipes are trusted are not made at all, and the same root comes of them.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_live.base.errors import RootfsError
from bootc_live.formats.fsverity import verity_digest
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.layouts.composefs import store as store_module
from bootc_live.rootfs.layouts.composefs.check import prune
from bootc_live.rootfs.layouts.composefs.layers import StoredLayers, forget_layers
from bootc_live.rootfs.layouts.composefs.layout import store_root
from bootc_live.rootfs.layouts.composefs.metadata import object_path
from bootc_live.rootfs.layouts.composefs.store import content_digest, node_digest
from bootc_live.rootfs.tree.data import content_reader, fill_files, left_out
from bootc_live.rootfs.tree.merge import merge
from bootc_live.rootfs.tree.node import Node, walk
from bootc_live.system import fsverity
from tests.lib.oci_writer import sha256
from tests.lib.storing import fetched, objects, stored, trusting
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
    root = stored(store, (BASE, tar))
    layers = StoredLayers(str(store))
    assert layers.size(sha256(tar)) == len(tar)
    assert made_again(layers, sha256(tar)) == tar
    assert recipe(store, tar).parent.name + recipe(store, tar).name in root.objects
    # What objects have is not there again.
    assert not [content for content in (LARGE, LONG) if content in recipe(store, tar).read_bytes()]


def test_unknown_layers(store: Path) -> None:
    layers = StoredLayers(str(store))
    assert (layers.size(sha256(b"x")), made_again(layers, sha256(b"x"))) == (None, None)


def upgraded(directory: Path, layers: StoredLayers, *new: bytes) -> VerifiedImage:
    """An image that the layers of the store are below, of a source that has the new ones alone."""
    return fetched(directory, layers, (BASE, UPPER, *new), gone=2)


def test_objects_are_not_hashed_again(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade whose new layer is the only one that the source still has."""
    new = layer(file("new", RANDOM.randbytes(20_000)))
    layers = trusting(store)
    image = upgraded(tmp_path, layers, new)
    hashed: list[int] = []

    def counting(fd: int, node: Node) -> str:
        hashed.append(node.size)
        return node_digest(fd, node)

    def counting_small(content: bytes) -> str:
        hashed.append(len(content))
        return verity_digest(content)

    monkeypatch.setattr(store_module, "node_digest", counting)
    monkeypatch.setattr(store_module, "verity_digest", counting_small)
    root = store_root(image, str(store), reused=layers)
    assert (root.added, root.added_bytes) == (1, 20_000)
    # The others are the recipe of the new layer, and the metadata image.
    assert 20_000 in hashed
    assert len(hashed) == 3
    assert made_again(StoredLayers(str(store)), sha256(new)) == new
    assert root.digest == alone(tmp_path, BASE, UPPER, new)


def alone(directory: Path, *tars: bytes) -> str:
    """The digest of the root of an image in an empty store."""
    return stored(directory / f"alone-{len(list(directory.iterdir()))}", tars).digest


def upgrade(directory: Path, store: Path, layers: StoredLayers, *new: bytes) -> str:
    """The digest of a new root in a store, of the layers that are there and new ones."""
    return store_root(upgraded(directory, layers, *new), str(store), reused=layers).digest


def test_root_of_an_image_is_always_the_same(store: Path, tmp_path: Path) -> None:
    """Whatever was there: else nothing could repair its metadata. A root has all objects of its recipes."""
    hiding = layer(file("etc/.wh.large", b""), file("etc/.wh.other", b""))
    second = upgrade(tmp_path, store, trusting(store), hiding)
    assert second == alone(tmp_path, BASE, UPPER, hiding)
    prune(str(store), [second])
    assert LARGE not in [path.read_bytes() for path in objects(store).values()]
    layers = trusting(store)
    new = layer(file("new", b"new " * 2000))
    image = fetched(tmp_path, layers, (BASE, UPPER, hiding, new), gone=3)
    assert all(each.left_out for each in image.layers[:2])
    assert store_root(image, str(store), reused=layers).digest == alone(tmp_path, BASE, UPPER, hiding, new)


@pytest.mark.parametrize("wrong", ["nothing", "an object", "the recipe"])
def test_fs_verity(wrong: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel has it, what it does not protect is not left where it is; guests in QEMU have a real one."""
    unprotected = {
        "nothing": Path("/"),
        "an object": large_object(store),
        "the recipe": recipe(store),
    }[wrong].stat()

    def measure(fd: int) -> str | None:
        found = os.fstat(fd)
        return None if os.path.samestat(found, unprotected) else content_digest(fd, found.st_size)

    monkeypatch.setattr(fsverity, "obstacle", lambda _: "")
    monkeypatch.setattr(fsverity, "measure", measure)
    layers = trusting(store)
    image = fetched(tmp_path, layers, (BASE, UPPER))
    assert [bool(each.left_out) for each in image.layers] == [wrong == "nothing", True]
    assert wrong == "nothing" or part(image, image.layers[0].offset, len(BASE)) == BASE


def test_recipe_that_cuts_a_layer_in_other_parts(store: Path, tmp_path: Path) -> None:
    """It makes the right bytes, and what is trusted later would leave out a header."""
    digest = added(store, BASE)
    right = os.readlink(link(store))
    named(store, head(len(BASE)) + struct.pack("<BQ", 1, len(BASE)) + bytes.fromhex(digest))
    layers = StoredLayers(str(store))
    assert made_again(layers, sha256(BASE)) == BASE
    upgrade(tmp_path, store, layers)
    assert os.readlink(link(store)) == right


def test_layer_that_ends_with_a_file(tmp_path: Path) -> None:
    """Without the blocks that end a tar."""
    store = tmp_path / "store"
    cut = BASE[: BASE.index(LONG) + len(LONG)]
    stored(store, (cut,))
    layers = trusting(store)
    image = fetched(tmp_path, layers, (cut,), gone=1)
    assert len(image.layers[0].left_out) > 1
    assert store_root(image, str(store), reused=layers).digest == alone(tmp_path, cut)


def part(image: VerifiedImage, offset: int, size: int) -> bytes:
    """Bytes of the data file, which is sparse and large."""
    with Path(image.path).open("rb") as file:
        return os.pread(file.fileno(), size, offset)


def contents(image: VerifiedImage) -> dict[int, bytes]:
    """The content of each file by its place, in all ways in which it is read."""
    files = [node for node in walk(merge(image)) if node.kind == "file"]
    with content_reader(image) as read:
        found = {node.offset: read(node) for node in files}
    fill_files(image, files)
    assert any(left_out(image, node) for node in files) == any(layer.left_out for layer in image.layers)
    assert found == {node.offset: part(image, node.offset, node.size) for node in files}
    return found


def test_trusted_layers_are_not_copied(store: Path, tmp_path: Path) -> None:
    """Their objects stay where they are, until somebody wants them in the data file."""
    image = upgraded(tmp_path, trusting(store))
    places = [place for each in image.layers for place in each.left_out]
    assert sorted(size for _, size in places) == sorted([len(LARGE), 4096, 4096, 5000])
    assert all(part(image, *place) == bytes(place[1]) for place in places)
    (tmp_path / "verified").mkdir()
    made = upgraded(tmp_path / "verified", StoredLayers(str(store)))
    assert contents(image) == contents(made)
    for tar, filled in zip((BASE, UPPER), image.layers, strict=True):
        assert part(image, filled.offset, filled.size) == tar


def recipe(store: Path, tar: bytes = BASE) -> Path:
    return store / "objects" / object_path(os.readlink(link(store, tar)))


def link(store: Path, tar: bytes = BASE) -> Path:
    return store / "layers" / sha256(tar).replace(":", "-")


def added(store: Path, content: bytes) -> str:
    """Adds an object, and returns its digest."""
    digest = verity_digest(content)
    place = store / "objects" / object_path(digest)
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    return digest


def named(store: Path, content: bytes) -> None:
    """Makes another recipe of the layer, with the digest of its content."""
    digest = added(store, content)
    link(store).unlink()
    link(store).symlink_to(digest)


def instead(path: Path) -> Path:
    """A place that something else gets."""
    path.rename(path.with_name("moved"))
    return path


def head(size: int, diff_id: str = sha256(BASE)) -> bytes:
    return struct.pack("<8sHQ", b"bl-layer", len(diff_id), size) + diff_id.encode()


def large_object(store: Path) -> Path:
    return next(path for path in objects(store).values() if path.stat().st_size == len(LARGE))


def broken_object(store: Path) -> None:
    path = large_object(store)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + b"x")


def missing_object(store: Path) -> None:
    large_object(store).unlink()


def short_object(store: Path) -> None:
    path = large_object(store)
    path.chmod(0o600)
    os.truncate(path, 100)


def longer_size(store: Path) -> None:
    content = recipe(store).read_bytes()
    named(store, head(2**62) + content[len(head(0)) :])


def path_out(store: Path) -> None:
    digest = hashlib.sha256(b"no such object").hexdigest()
    assert not (store / "objects" / object_path(digest)).exists()
    named(store, head(10) + struct.pack("<BQ", 1, 10) + bytes.fromhex(digest))


def other_layer(store: Path) -> None:
    """Its recipe is trusted, too."""
    target = os.readlink(link(store, UPPER))
    link(store).unlink()
    link(store).symlink_to(target)


def no_recipe(store: Path) -> None:
    """An object that the root lists."""
    other = next(name for name, path in objects(store).items() if path.stat().st_size == len(LARGE))
    link(store).unlink()
    link(store).symlink_to(other)


def made_up(store: Path) -> None:
    """A recipe of other bytes, in the place of the right one."""
    content = recipe(store).read_bytes().replace(b"etc/small", b"etc/smell")
    path = recipe(store)
    path.unlink()
    path.write_bytes(content)


HARM = (
    missing_object,
    short_object,
    longer_size,
    path_out,
    other_layer,
    no_recipe,
    made_up,
    lambda store: named(store, recipe(store).read_bytes()[:-20]),
    lambda store: named(store, b"no recipe"),
    lambda store: named(store, head(100)),
    lambda store: named(store, b""),
    lambda store: link(store).unlink(),
    lambda store: instead(link(store)).write_bytes(b""),
    lambda store: instead(link(store)).symlink_to("../../etc/passwd"),
    lambda store: instead(recipe(store)).symlink_to("moved"),
    lambda store: os.mkfifo(instead(recipe(store))),
    lambda store: os.mkfifo(instead(large_object(store))),
)


@pytest.mark.parametrize("trusted", [False, True], ids=["verified", "trusted"])
@pytest.mark.parametrize("harm", [broken_object, *HARM])
def test_what_is_wrong_is_fetched(harm: Callable[[Path], object], trusted: bool, store: Path, tmp_path: Path) -> None:
    before = set(objects(store))
    harm(store)
    # As if the root listed the wrong one.
    more = set(objects(store)) - before if trusted else set()
    layers = trusting(store, *more) if trusted else StoredLayers(str(store))
    image = fetched(tmp_path, layers, (BASE, UPPER))
    assert image.layers[0].diff_id == sha256(BASE)
    if trusted and harm is broken_object:
        # The running root reads the same object: its kernel checks it, or nobody does but verify and fsck.
        assert image.layers[0].left_out
        # What is read of it is checked.
        with pytest.raises(RootfsError, match=r"has changed.*"):
            contents(image)
        return
    assert image.layers[0].left_out == {}
    assert part(image, image.layers[0].offset, len(BASE)) == BASE
    assert store_root(image, str(store), reused=layers).digest == alone(tmp_path, BASE, UPPER)
    assert made_again(StoredLayers(str(store)), sha256(BASE)) == BASE


def test_what_no_deployment_has_is_forgotten(store: Path) -> None:
    forget_layers(str(store), {sha256(UPPER)})
    layers = StoredLayers(str(store))
    assert (made_again(layers, sha256(BASE)), made_again(layers, sha256(UPPER))) == (None, UPPER)
    forget_layers(str(store / "nothing"), ())
