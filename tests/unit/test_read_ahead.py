"""Headers that are read while layers are written: the same tree comes of them as of a second look."""

from __future__ import annotations

import marshal
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from bootc_live.base.errors import ImageError
from bootc_live.base.log import Recorder
from bootc_live.config.model import RetryLimits
from bootc_live.config.source_spec import parse_source
from bootc_live.formats.tar.reader import Member, read_members
from bootc_live.image.sink import DataFile, LayerPlace, LayerSink
from bootc_live.image.verified import VerifiedImage, VerifiedLayer
from bootc_live.rootfs.boot_files.filter import BootFileFilter
from bootc_live.rootfs.tree import read_ahead as read_ahead_module
from bootc_live.rootfs.tree.follower import AbandonedError
from bootc_live.rootfs.tree.merge import Merging, merge
from bootc_live.rootfs.tree.node import TEXT, Budget, Node
from bootc_live.rootfs.tree.read_ahead import HeldMembers, PackedMembers, ReadAhead, read_ahead
from bootc_live.source.access import Access
from bootc_live.source.retry import RetryPolicy
from tests.lib.fetching import plain
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.tar_writer import directory, file, hardlink, layer, xattr
from tests.unit.merging import paths

QUICK = RetryPolicy(RetryLimits(tries=1, stall=60.0, total=600.0))
BASE = layer(directory("etc/"), file("etc/who", "base\n"), *(file(f"etc/{number}") for number in range(600)))
OTHER = layer(file("etc/who", "other\n"), file("etc/.wh.7", ""), hardlink("etc/link", "etc/who"))


def acquired(tars: Sequence[bytes], where: Path, ahead: LayerSink) -> VerifiedImage:
    """An image of these layers in the data file, with its headers read on the way."""
    archive = write_archive(where / "image.oci", Image([Layer(tar, "gzip") for tar in tars]))
    access = Access(lambda _: None, policy=QUICK)
    recorder = Recorder(quiet=True)
    return plain([parse_source(str(archive))], access, where / "layers", recorder, ahead).image


def described(root: Node, path: bytes = b"") -> list[tuple[object, ...]]:
    """Every name of a tree, with what is recorded of it."""
    found: list[tuple[object, ...]] = []
    for name, node in sorted(root.directory.items()):
        found.append((path + name, node.kind, node.mode, node.size, node.offset, dict(node.xattrs), node.layer))
        if node.children is not None:
            found += described(node, path + name + b"/")
    return found


@pytest.fixture
def unmerged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members that nobody merges before all layers are there."""
    monkeypatch.setattr(read_ahead_module._MergingAhead, "_run", lambda _: None)


# The layers of an image, and how many of them are merged when it is there.
MERGED = {
    "one": ((BASE,), 1),
    "two": ((BASE, OTHER), 2),
    "the base again": ((BASE, OTHER, BASE), 2),
    "both twice": ((BASE, BASE, OTHER, OTHER), 1),
}


@pytest.mark.parametrize("row", MERGED)
def test_tree_is_the_same(row: str, tmp_path: Path) -> None:
    """Also where a layer stands twice: what was read is given back at its first use."""
    tars, merged = MERGED[row]
    with read_ahead(str(tmp_path / "layers")) as ahead:
        image = acquired(tars, tmp_path, ahead)
        merging, done = ahead.begun(image)
        assert done == merged
        assert described(merge(image, Begun(ahead, merging, done))) == described(merge(image))
        assert ahead.begun(image)[1] == 0
        assert ahead.members(image.layers[0]) is None


@dataclass(frozen=True)
class Begun:
    """What was read, with a tree that was asked for before."""

    ahead: ReadAhead
    merging: Merging
    done: int

    def begun(self, _image: VerifiedImage) -> tuple[Merging, int]:
        return self.merging, self.done

    def members(self, layer: VerifiedLayer) -> Iterator[Member] | None:
        return self.ahead.members(layer)


@pytest.mark.parametrize("wrong", [BASE, layer(file("etc/wrong")), b"x" * 1024], ids=["same", "other", "damaged"])
@pytest.mark.parametrize("number", [0, 1])
def test_what_was_merged_of_wrong_bytes_does_not_count(number: int, wrong: bytes, tmp_path: Path) -> None:
    """As when one mirror sends wrong bytes, and the next one the right ones."""
    with read_ahead(str(tmp_path / "layers")) as ahead:
        image = acquired((BASE, OTHER), tmp_path, ahead)
    elsewhere = os.stat(image.path).st_size
    with open(image.path, "r+b") as data:
        data.seek(elsewhere)
        data.write(wrong)
    with read_ahead(image.path) as ahead:
        ahead.begin(image.resolved)
        for found in image.layers:
            if found is image.layers[number]:
                with suppress(KeyError), ahead.layer(LayerPlace(found.diff_id, elsewhere)) as tar:
                    tar.advance(len(wrong))
                    tar.end(len(wrong))
                    raise KeyError
            with ahead.layer(LayerPlace(found.diff_id, found.offset)) as tar:
                tar.end(found.size)
        assert described(merge(image, ahead)) == described(merge(image))


@pytest.mark.parametrize("row", MERGED)
def test_layers_that_are_there(row: str, tmp_path: Path) -> None:
    """As those of a store, which are not written while they are read."""
    tars, merged = MERGED[row]
    image = acquired((*tars, b""), tmp_path, DataFile())
    with read_ahead(image.path) as ahead:
        ahead.begin(image.resolved)
        for found in dict.fromkeys(image.layers):
            with ahead.layer(LayerPlace(found.diff_id, found.offset, whole=found.size)) as progress:
                progress.end(found.size)
        merging, done = ahead.begun(image)
        assert done == (len(tars) + 1 if merged == len(tars) else merged)
        assert described(merge(image, Begun(ahead, merging, done))) == described(merge(image))


@pytest.mark.usefixtures("unmerged")
def test_layers_that_are_there_and_no_longer_wanted(tmp_path: Path) -> None:
    image = acquired((BASE,), tmp_path, DataFile())
    (base,) = image.layers
    with read_ahead(image.path) as ahead:
        ahead.begin(image.resolved)
        with ahead.layer(LayerPlace(base.diff_id, base.offset, whole=base.size)):
            members = ahead.members(base)
        assert members is not None
        assert next(members).name == b"etc/"
    with pytest.raises(AbandonedError):
        next(members)


def sent(ahead: ReadAhead, image: VerifiedImage) -> None:
    """Hands over the layers of an image that is in the data file."""
    ahead.begin(image.resolved)
    for found in image.layers:
        with ahead.layer(LayerPlace(found.diff_id, found.offset)) as tar:
            tar.end(found.size)


def test_image_with_fewer_layers_than_were_merged(tmp_path: Path) -> None:
    """As of a second source that is a stream: it does not tell the sink which image begins."""
    images = []
    for tars in ((BASE,), (BASE, OTHER)):
        where = tmp_path / f"{len(tars)}"
        where.mkdir()
        with read_ahead(str(where / "layers")) as ahead:
            images.append(acquired(tars, where, ahead))
    shorter, longer = images
    with read_ahead(longer.path) as ahead:
        sent(ahead, longer)
        os.replace(longer.path, shorter.path)
        assert shorter.layers[0] == longer.layers[0]
        assert described(merge(shorter, ahead)) == described(merge(shorter))


def test_no_memory_for_the_last_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with read_ahead(str(tmp_path / "layers")) as ahead:
        image = acquired((BASE, OTHER), tmp_path, ahead)

    def dumps(members: list[object]) -> bytes:
        if len(members) < 256:
            raise MemoryError
        return marshal.dumps(members)

    monkeypatch.setattr(read_ahead_module, "marshal", SimpleNamespace(loads=marshal.loads, dumps=dumps))
    with read_ahead(image.path) as ahead:
        sent(ahead, image)
        assert ahead.begun(image)[1] == 0


def test_what_is_forgotten_takes_no_memory() -> None:
    packed = PackedMembers(held := HeldMembers())
    for member in read_members(BASE):
        packed.add(member)
    packed.forget()
    for member in read_members(BASE):
        packed.add(member)
    packed.end()
    assert list(packed) == []
    held.spend(Budget.MOST["members"], 0)


def test_few_members_are_merged_before_the_layer_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead_module, "_MOST_UNVERIFIED", 300)
    with read_ahead(str(tmp_path / "layers")) as ahead:
        image = acquired((BASE, OTHER), tmp_path, ahead)
    base = image.layers[0]
    with read_ahead(image.path) as ahead:
        ahead.begin(image.resolved)
        with ahead.layer(LayerPlace(base.diff_id, base.offset)) as tar:
            tar.end(base.size)
            (headers,) = [thread for thread in threading.enumerate() if thread.name == "headers"]
            headers.join()
            assert ahead._merging is not None
            assert len(paths(ahead._merging._merging.root)) <= 300
        assert described(merge(image, ahead)) == described(merge(image))


@pytest.mark.usefixtures("unmerged")
def test_layers_are_read_on_their_way(tmp_path: Path) -> None:
    with read_ahead(str(tmp_path / "layers")) as ahead:
        image = acquired((BASE, OTHER), tmp_path, ahead)
        assert [len(list(ahead.members(layer) or ())) for layer in image.layers] == [602, 3]


def test_damage_is_told_when_the_layer_counts(tmp_path: Path) -> None:
    with read_ahead(str(tmp_path / "layers")) as ahead:
        image = acquired((BASE, b"x" * 1024), tmp_path, ahead)
        with pytest.raises(ImageError, match=r"layer 1 .*no tar header"):
            merge(image, ahead)


def test_no_thread_is_left(tmp_path: Path) -> None:
    def one() -> None:
        with read_ahead(str(tmp_path / "layers")) as ahead:
            (tmp_path / "layers").write_bytes(b"")
            with ahead.layer(LayerPlace("sha256:a", 0)) as tar:
                tar.advance(0)
                raise KeyError

    with pytest.raises(KeyError):
        one()
    assert not [thread for thread in threading.enumerate() if thread.name in ("headers", "merge")]


def test_packed_members_are_the_same() -> None:
    tar = layer(*(file(f"{number}", "x" * number) for number in range(300)), file("with", pax=[xattr("user.a", b"1")]))
    packed = PackedMembers(HeldMembers())
    for member in read_members(tar):
        packed.add(member)
    packed.end()
    assert list(packed) == list(read_members(tar))


@pytest.mark.parametrize(
    "made", [read_ahead, lambda path: nullcontext(BootFileFilter(path))], ids=["whole", "boot files"]
)
@pytest.mark.parametrize(("what", "most"), [("members", 600), (TEXT, 120_000)])
@pytest.mark.usefixtures("unmerged")
def test_layers_have_one_budget(
    made: Callable[[str], AbstractContextManager[ReadAhead | BootFileFilter]],
    what: str,
    most: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What waits of all layers is counted together, and no more once another image comes."""
    several = [layer(*(directory(f"{number}-{name}{'x' * 200}/") for name in range(300))) for number in range(4)]
    monkeypatch.setitem(Budget.MOST, what, most)
    data = tmp_path / "layers"
    with made(str(data)) as ahead:
        image = acquired(several, tmp_path, ahead)
        for thread in threading.enumerate():
            if thread.name == "headers":
                thread.join()
        said = set()
        for found in image.layers:
            try:
                said.add(f"{len(list(ahead.members(found) or ()))} members")
            except ValueError as error:
                said.add(str(error))
        assert f"the layers together have more than {most} {what}" in said
        for tar in several[:3]:
            data.unlink()
            (found,) = acquired([tar], tmp_path, ahead).layers
            assert len(list(ahead.members(found) or ())) == 300


def test_data_beyond_the_end_is_refused(tmp_path: Path) -> None:
    """The size of a tar is not known while its headers are read."""
    cut = layer(file("first", "x"), file("last", "y" * 4096))[:-4096]
    for number, tars in enumerate([(BASE, cut), (cut, BASE)]):
        where = tmp_path / f"{number}"
        where.mkdir()
        with read_ahead(str(where / "layers")) as ahead:
            image = acquired(tars, where, ahead)
            with pytest.raises(ImageError, match="beyond"):
                merge(image, ahead)
