"""The composefs layout: what the kernel mounts equals what umoci unpacks, and the store holds nothing wrong."""

from __future__ import annotations

import random
import stat
import subprocess
from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError, OutOfMemoryError, RootfsError
from bootc_live.formats.fsverity import verity_digest
from bootc_live.rootfs.layouts.composefs.check import prune, referred_objects, wrong_objects
from bootc_live.rootfs.layouts.composefs.layout import store_root
from bootc_live.rootfs.layouts.composefs.metadata import filesystem_size
from bootc_live.rootfs.layouts.composefs.mount import mounted_root
from bootc_live.rootfs.layouts.composefs.store import store_writer
from tests.integration.corpus import CASES
from tests.integration.corpus.case import Case
from tests.integration.corpus.oracle import ask_umoci, without_new_times
from tests.integration.corpus.verbs import for_layouts
from tests.integration.test_tree_corpus import image, wanted
from tests.lib.erofs_images import read_by_erofs_utils
from tests.lib.fetching import fetched_archive
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.small_image import BASE, HERE, UPPER
from tests.lib.space import tmpfs
from tests.lib.storing import as_overlaid, objects, recipes, stored
from tests.lib.tar_writer import directory, file, hardlink, layer
from tests.lib.tree_list import differences, tree_list


@pytest.mark.parametrize("case", for_layouts(CASES))
def test_tree_equals_umoci(case: Case, tmp_path: Path) -> None:
    store, where = tmp_path / "store", tmp_path / "root"
    where.mkdir()
    if case.refused:
        with pytest.raises(BootcLiveError):
            stored(store, case.layers)
        assert not objects(store)
        return
    root = stored(store, case.layers)
    want = as_overlaid(wanted(case, ask_umoci(image(case.layers))))
    with mounted_root(str(store), root.digest, str(where), verity=False):
        want, got = without_new_times(want, tree_list(where))
    assert not differences(want, got)


def data(seed: int, size: int) -> bytes:
    """Bytes like no others."""
    return random.Random(seed).randbytes(size)


SHARED = layer(directory("./"), file("same", data(1, 5000)), file("small", "inlined"), hardlink("link", "same"))
ONE, OTHER = layer(file("own", data(2, 9000))), layer(file("own", data(3, 1000)), file("again", data(1, 5000)))


def test_objects_are_shared(tmp_path: Path) -> None:
    store = tmp_path / "store"
    one = stored(store, (SHARED, ONE))
    first = recipes(store)
    before = {name: path.stat().st_ino for name, path in objects(store).items()}
    other = stored(store, (SHARED, OTHER))
    same = verity_digest(data(1, 5000))
    second = recipes(store)
    assert (len(first), len(second)) == (2, 3)
    assert one.objects - first == {same, verity_digest(data(2, 9000))}
    assert other.objects - second == {same, verity_digest(data(3, 1000))}
    assert (one.added, one.added_bytes) == (2, 14000)
    assert (other.added, other.added_bytes) == (1, 1000)
    found = objects(store)
    assert found.keys() == one.objects | other.objects
    assert all(found[name].stat().st_ino == inode for name, inode in before.items()), "an object was written again"
    for name, path in found.items():
        assert path.stat().st_mode == stat.S_IFREG | 0o444
        assert verity_digest(path.read_bytes()) == name
    for root in (one, other):
        assert referred_objects(str(store), root.digest) == root.objects
        assert not list(wrong_objects(str(store), root.digest))


def test_same_tree_same_bytes(tmp_path: Path) -> None:
    """Whatever is in the store, and however its layers are cut, but for the recipes of these."""
    cut = layer(file("same", "hidden"), file("own", "hidden"))
    tars = {"one": (SHARED, ONE), "same": (SHARED, ONE), "cut": (cut, SHARED, ONE)}
    stored(tmp_path / "same", (SHARED, OTHER))
    roots = {name: stored(tmp_path / name, each) for name, each in tars.items()}
    images = {name: tmp_path / name / "images" / f"{root.digest}.erofs" for name, root in roots.items()}
    assert roots["one"].digest == roots["same"].digest
    assert images["one"].read_bytes() == images["same"].read_bytes()
    assert verity_digest(images["one"].read_bytes()) == roots["one"].digest
    (recipe,) = roots["cut"].objects - roots["one"].objects
    assert recipe in recipes(tmp_path / "cut")
    with images["one"].open("rb") as opened:
        end = filesystem_size(opened.fileno())
    assert images["one"].read_bytes()[:end] == images["cut"].read_bytes()[:end]


def test_erofs_utils_read_the_metadata(tmp_path: Path) -> None:
    root = stored(tmp_path / "store", (BASE, UPPER, SHARED))
    read_by_erofs_utils(tmp_path / "store" / "images" / f"{root.digest}.erofs")


def flipped(path: Path, at: int) -> None:
    """Changes one bit of a file that nobody may write to."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_wrong_objects_are_found(tmp_path: Path) -> None:
    store = tmp_path / "store"
    tars = (layer(directory("./"), *(file(name, data(n, 5000)) for n, name in enumerate("abcde"))),)
    root = stored(store, tars)
    names = {name: verity_digest(data(n, 5000)) for n, name in enumerate("abcde")}
    places = {name: objects(store)[digest] for name, digest in names.items()}
    flipped(places["a"], 4999)
    places["b"].unlink()
    places["c"].unlink()
    places["c"].mkdir()
    with places["d"].open("ab") as file_:
        file_.write(b"more")
    wrong = {found.digest: found.problem for found in wrong_objects(str(store), root.digest)}
    assert wrong == {
        names["a"]: "its content has changed",
        names["b"]: "No such file or directory",
        names["c"]: "Is a directory",
        names["d"]: "its content has changed",
    }
    # A new installation of the same image mends them.
    places["c"].rmdir()
    again = stored(store, tars)
    assert (again.digest, again.added) == (root.digest, 4)
    assert list(wrong_objects(str(store), root.digest)) == []


def test_changed_metadata_is_refused(tmp_path: Path) -> None:
    """Every byte of it counts, the list of objects too, which no mount would read."""
    store, where = tmp_path / "store", tmp_path / "root"
    where.mkdir()
    root = stored(store, (SHARED, ONE))
    path = store / "images" / f"{root.digest}.erofs"
    whole = path.read_bytes()
    for at in (1024, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole)
        flipped(path, at)
        with (
            pytest.raises(RootfsError, match=rf"{root.digest}.erofs' has the digest [0-9a-f]{{64}}, not that of its"),
            mounted_root(str(store), root.digest, str(where), verity=False),
        ):
            pass
        with pytest.raises(RootfsError, match="was changed, or is damaged"):
            prune(str(store), [root.digest])
        assert len(objects(store)) == 4, "objects were removed by a list that is not to be trusted"
    path.unlink()
    with pytest.raises(RootfsError, match="No such file"):
        referred_objects(str(store), root.digest)


def test_metadata_that_changes_while_it_is_mounted(tmp_path: Path) -> None:
    """What was checked is what is mounted, where no fs-verity holds the file."""
    store, where = tmp_path / "store", tmp_path / "root"
    where.mkdir()
    root = stored(store, (SHARED, ONE))
    with mounted_root(str(store), root.digest, str(where), verity=False):
        path = store / "images" / f"{root.digest}.erofs"
        path.write_bytes(bytes(path.stat().st_size))
        Path("/proc/sys/vm/drop_caches").write_text("3")
        assert sorted(entry.name for entry in where.iterdir()) == ["link", "own", "same", "small"]


def test_require_verity(tmp_path: Path) -> None:
    """Files of objects that nothing protects cannot be opened, while what is inlined can."""
    store, where = tmp_path / "store", tmp_path / "root"
    where.mkdir()
    root = stored(store, (SHARED,))
    assert root.obstacle == "there is no fs-verity: the type of file system has none"
    with mounted_root(str(store), root.digest, str(where), verity=True):
        with pytest.raises(OSError, match="Input/output error"):
            (where / "same").read_bytes()
        assert (where / "small").read_bytes() == b"inlined"


def test_odd_names_of_directories(tmp_path: Path) -> None:
    base = tmp_path / "a,b:c\\d e"
    where = base / "root"
    where.mkdir(parents=True)
    root = stored(base / "store:x,y", (SHARED,))
    with mounted_root(str(base / "store:x,y"), root.digest, str(where), verity=False):
        assert (where / "same").read_bytes() == data(1, 5000)


@pytest.mark.parametrize(
    ("options", "tar", "reason"),
    [
        ("size=2M", layer(*(file(f"f{n}", data(n, 300_000)) for n in range(10))), "has 2.0 MiB, .* of them free"),
        (
            "size=64M,nr_inodes=300",
            layer(*(file(f"f{n}", data(n, 1000)) for n in range(400))),
            "holds no more than 300 files",
        ),
    ],
    ids=["bytes", "inodes"],
)
def test_full_disk(options: str, tar: bytes, reason: str, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", options) as disk:
        archive = write_archive(tmp_path / "image.oci", Image([Layer(tar, "none")], architecture=HERE))
        image = fetched_archive(archive, str(archive), tmp_path / "layers")
        with pytest.raises(OutOfMemoryError, match=rf"the store '{disk}/store' has no space left.*{reason}") as caught:
            store_root(image, str(disk / "store"))
        assert caught.value.hint == f"free space on the file system of {disk}/store, or use another file system"
        assert not [path for path in (disk / "store").rglob("*") if not path.is_dir()]
        assert sorted(path.name for path in (disk / "store").iterdir()) == ["images", "objects"]


def test_stores_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(RootfsError, match=r"the store '.*none' cannot be changed: No such file or directory"):
        prune(str(tmp_path / "none"), [])
    (tmp_path / "file").touch()
    with pytest.raises(RootfsError, match=r"the store '.*file' cannot be changed: "):
        stored(tmp_path / "file", (SHARED,))
    with tmpfs(tmp_path / "disk") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        archive = write_archive(tmp_path / "image.oci", Image([Layer(SHARED, "none")], architecture=HERE))
        image = fetched_archive(archive, str(archive), tmp_path / "layers")
        with pytest.raises(RootfsError, match=r"the store '.*store' cannot be changed: Read-only file system"):
            store_root(image, str(disk / "store"))


def test_two_writers(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with store_writer(str(store)), pytest.raises(RootfsError, match="another process changes"):
        stored(store, (SHARED,))
    stored(store, (SHARED,))


def test_prune(tmp_path: Path) -> None:
    store = tmp_path / "store"
    one, other = stored(store, (SHARED, ONE)), stored(store, (SHARED, OTHER))
    image = store / "images" / f"{one.digest}.erofs"
    (recipe,) = recipes(store) & (one.objects - other.objects)
    freed = image.stat().st_size + 9000 + objects(store)[recipe].stat().st_size
    assert prune(str(store), [other.digest]) == freed
    assert objects(store).keys() == other.objects
    assert [path.name for path in (store / "images").iterdir()] == [f"{other.digest}.erofs"]
    assert prune(str(store), [other.digest]) == 0
    assert prune(str(store), []) > 0
    assert not objects(store)
