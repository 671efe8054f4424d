"""The image that is written, read back by a reader of its own: nothing is lost, whatever the tree."""

from __future__ import annotations

import os
import random
import stat
import struct
import tempfile
from collections.abc import Mapping

import pytest

from bootc_live.formats.erofs.structures import BLOCK, device_number, xattr_body
from bootc_live.rootfs.layouts.erofs import writer as erofs_writer
from bootc_live.rootfs.layouts.index.layout import write_metadata
from bootc_live.rootfs.tree.node import Node, walk
from tests.lib.tar_writer import directory, file, hardlink, node, pax_header, sparse_gnu, sparse_pax, symlink, xattr
from tests.unit.erofs_reader import Found, Image
from tests.unit.merging import data_file, merged, node_at, paths

LIMIT = 1 << 22
Layers = tuple[tuple[bytes, ...], ...]

# One of everything.
RICH: Layers = (
    (
        directory("./", mode=0o755, mtime=1000),
        directory("etc/", mode=0o750, uid=1, gid=2),
        file("etc/hostname", "live\n", mtime=12_345),
        file("etc/empty"),
        file("bin/su", b"s" * 5000, mode=0o4755, pax=[xattr("security.capability", b"\1\2\3")]),
        symlink("sbin", "bin"),
        symlink("long", "x" * 3000),
        node("dev/null", "char", 1, 3, mode=0o666),
        node("dev/sda", "block", 259, 70_000),
        node("run/fifo", "fifo"),
    ),
    (
        hardlink("bin/sudo", "bin/su"),
        sparse_gnu("var/sparse", 50_000, [(4096, b"a" * 512), (20_000, b"b" * 100)]),
        sparse_pax("var/hole", 1_000_000, []),
        file("etc/passwd", "root\n", pax=[("mtime", "-1.25"), xattr("user.a", "b" * 300), xattr("trusted.t", "")]),
        directory("var/lib/", pax=[xattr("system.posix_acl_default", b"\2\0\0\0")]),
    ),
)


def image_of(*layers: tuple[bytes, ...]) -> bytes:
    """The whole data file of an image: metadata, and the layers at the offsets the tree has."""
    return written(merged(*layers), data_file(*layers))


def shifted(root: Node, by: int) -> None:
    """Moves all data of a tree, to make room for metadata in front."""
    for entry in walk(root):
        entry.offset += by
        if entry.extents is not None:
            entry.extents = tuple(part._replace(data=part.data + by) for part in entry.extents)


def written(root: Node, data: bytes = b"") -> bytes:
    shifted(root, LIMIT)
    with tempfile.TemporaryFile() as out:
        os.pwrite(out.fileno(), data, LIMIT)
        size = write_metadata([*walk(root)], out.fileno(), LIMIT, len(data))
        assert size % 4096 == 0
        content = os.pread(out.fileno(), LIMIT + len(data), 0)
    assert len(content) >= size
    return content


def content_of(data: bytes, entry: Node) -> bytes:
    """What reading the node must give, data read at the offsets of the shifted tree."""
    if entry.extents is not None:
        content = bytearray(entry.size)
        for part in entry.extents:
            content[part.start : part.start + part.length] = data[part.data : part.data + part.length]
        return bytes(content)
    return data[entry.offset : entry.offset + entry.size] if entry.kind == "file" else entry.link


def compare(root: Node, data: bytes, image: bytes) -> None:
    """The image's tree against the tree it was made of, field by field."""
    reader = Image(image)
    found = reader.tree()
    names = {path.rstrip("/").encode(errors="surrogateescape"): path for path in paths(root)} | {b"": ""}
    assert found.keys() == names.keys()
    padded = bytes(LIMIT) + data
    nids: dict[int, int] = {}
    for name, path in names.items():
        entry, got = node_at(root, path), found[name]
        same_fields(entry, got, path)
        if entry.children is None:
            assert got.data == content_of(padded, entry), path
        assert nids.setdefault(got.nid, id(entry)) == id(entry), f"{path} shares an inode"
    assert len(nids) == len(list(walk(root))) == reader.inodes


def same_fields(entry: Node, got: Found, path: str) -> None:
    types = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK, "fifo": stat.S_IFIFO}
    kind = types.get(entry.kind) or (stat.S_IFCHR if entry.kind == "char" else stat.S_IFBLK)
    assert got.mode == kind | entry.mode, path
    assert (got.uid, got.gid, got.mtime, got.mtime_ns) == (entry.uid, entry.gid, entry.mtime, entry.mtime_ns), path
    known = (b"user.", b"trusted.", b"security.")
    acls = (b"system.posix_acl_access", b"system.posix_acl_default")
    wanted = {name: value for name, value in entry.xattrs.items() if name.startswith(known) or name in acls}
    assert got.xattrs == wanted, path
    if entry.kind in ("char", "block"):
        assert got.device == device_number(*entry.device), path


def round_trip(*layers: tuple[bytes, ...]) -> None:
    root, data = merged(*layers), data_file(*layers)
    compare(root, data, written(root, data))


def test_one_of_everything() -> None:
    round_trip(*RICH)


def test_nothing() -> None:
    round_trip(())
    image = Image(image_of(()))
    assert (image.inodes, image.root_nid, image.meta_block, image.block, image.name) == (1, 4, 2, 512, b"bootc-live")


def test_same_tree_same_bytes() -> None:
    assert image_of(*RICH) == image_of(*RICH)


def test_order_of_members_makes_no_difference() -> None:
    """But for where data lies, which does not show in empty files."""
    parts = [file(f"d{number % 7}/f{number}") for number in range(100)]
    first = image_of(tuple(parts))
    random.Random(1).shuffle(parts)
    assert image_of(tuple(parts))[:LIMIT] == first[:LIMIT]


def test_link_counts() -> None:
    names = (hardlink("g", "f"), hardlink("a/h", "f"))
    tree = Image(image_of((directory("a/b/c/"), directory("a/d/"), file("f"), *names, symlink("s", "f")))).tree()
    counts = {path: found.links for path, found in tree.items()}
    assert counts == {
        b"": 3, b"a": 4, b"a/b": 3, b"a/b/c": 2, b"a/d": 2, b"f": 3, b"g": 3, b"a/h": 3, b"s": 1
    }  # fmt: skip


@pytest.mark.parametrize("count", [1, 10, 30, 31, 32, 33, 100, 5000])
def test_directories_of_many_sizes(count: int) -> None:
    round_trip(tuple(file(f"{number:05}") for number in range(count)))


def test_names_that_sort_before_the_dots() -> None:
    round_trip(
        (file("!"), file("-"), file("+x"), file("..."), file(".a"), file("/ "), file("\x01"), file("z"), file(b"\xff"))
    )


def test_long_names() -> None:
    round_trip(tuple(file(character * 255) for character in "abcdefghij"), (file("n" * 255 + "/" + "m" * 255),))


@pytest.mark.parametrize("extra", [0, 1, 3, 4, 20, 28, 31, 32, 100, 384, 412, 448, 460, 484])
def test_links_of_every_length_with_attributes(extra: int) -> None:
    """Each has to find a place where neither inode nor inline tail crosses a block."""
    pax = [xattr("user.a", b"v" * extra)] if extra else []
    lengths = [1, 2, 31, 32, 33, 100, *range(380, 520, 3), 447, 448, 449, 511, 512, 513, 1024, 4095]
    round_trip(tuple(symlink(f"{length}", "t" * length, pax=pax) for length in lengths))


@pytest.mark.parametrize("length", range(0, 700, 12))
def test_inodes_behind_attributes_of_every_length(length: int) -> None:
    round_trip(
        (file("a", "1", pax=[xattr("user.x", b"v" * length)]), file("b", "2"), symlink("c", "3"), directory("d/"))
    )


def test_sparse_files() -> None:
    shapes: list[tuple[int, list[tuple[int, bytes]]]] = [
        (0, []),
        (1, []),
        (4096, [(0, b"a" * 4096)]),
        (100_000, [(at * 8192, bytes([at + 1]) * 512) for at in range(12)]),
        (100_000, [(at * 8191, bytes([at + 1]) * 77) for at in range(12)]),
    ]
    for size, parts in shapes:
        round_trip((file("before", "x"), sparse_gnu("s", size, parts), file("behind", "y" * 5000)))


def test_chunks_are_announced_only_where_there_are_any() -> None:
    assert Image(image_of((file("a", "x"),))).incompatible == 0
    assert Image(image_of((sparse_gnu("a", 5000, []),))).incompatible == 4


def test_devices_beyond_the_possible() -> None:
    with pytest.raises(ValueError, match="is the device 5000:0, which Linux cannot have"):
        image_of((node("d", "char", 5000, 0),))


def test_too_much_metadata() -> None:
    root = merged(tuple(file(f"{number}") for number in range(1000)))
    with tempfile.TemporaryFile() as out, pytest.raises(ValueError, match="is beyond the 4096 bytes of metadata"):
        write_metadata([*walk(root)], out.fileno(), 4096, 0)


def changed(name: str, **fields: object) -> Node:
    """A small tree in which one inode says something that no layer can make it say."""
    root = merged((directory("d/"), file("d/f", "x"), symlink("d/l", "t"), node("d/n", "char", 1, 3)))
    for field, value in fields.items():
        setattr(node_at(root, name), field, value)
    return root


IMPOSSIBLE: dict[str, Node] = {
    "an owner": changed("d/f", uid=2**32),
    "a group": changed("d/f", gid=-1),
    "a mode": changed("d/f", mode=0o10000),
    "a time": changed("d/f", mtime=2**63),
    "nanoseconds": changed("d/f", mtime_ns=10**9),
    "a size": changed("d/f", size=2**63),
    "no size": changed("d/f", size=-1),
    "a link of nothing": changed("d/l", link=b"", size=0),
    "a link with NUL": changed("d/l", link=b"a\0b", size=3),
    "a long link": changed("d/l", link=b"a" * 4096, size=4096),
    "a link of another length": changed("d/l", size=600),
    "a device": changed("d/n", device=(1, 2**20)),
    "an attribute": changed("d/f", xattrs={b"user.a\0b": b""}),
    "a long attribute": changed("d/f", xattrs={b"user." + b"n" * 251: b""}),
    "data far away": changed("d/f", offset=2**41),
}


@pytest.mark.parametrize("row", IMPOSSIBLE)
def test_what_the_format_cannot_say_is_refused(row: str) -> None:
    """Whatever lets it come so far: these trees are made by hand."""
    with tempfile.TemporaryFile() as out:
        with pytest.raises(ValueError, match="'/d/"):
            write_metadata([*walk(IMPOSSIBLE[row])], out.fileno(), LIMIT, 0)
        assert os.fstat(out.fileno()).st_size == 0


NAMES = [b"", b".", b"..", b"a/b", b"/", b"a\0b", b"\0", b"n" * 256, b"n" * 300, b"n" * 600, b"n" * 4000, b"n" * 70_000]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("among", [0, 100])
def test_names_that_no_directory_can_hold_are_refused(name: bytes, among: int) -> None:
    root = merged((directory("d/"), *(file(f"d/{number}") for number in range(among))))
    node_at(root, "d").directory[name] = Node("file")
    with tempfile.TemporaryFile() as out:
        with pytest.raises(ValueError, match="'/d' has "):
            write_metadata([*walk(root)], out.fileno(), LIMIT, 0)
        assert os.fstat(out.fileno()).st_size == 0


def test_all_metadata_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erofs_writer, "METADATA_MOST", 100_000)
    many = {f"user.{number}": b"v" * 60_000 for number in range(4)}
    attributes = [xattr(name, value) for name, value in many.items()]
    for parts in ((file("a", pax=attributes),), tuple(file(f"{number}") for number in range(2000))):
        with tempfile.TemporaryFile() as out, pytest.raises(ValueError, match="is beyond the"):
            write_metadata([*walk(merged(parts))], out.fileno(), LIMIT, 0)


def test_attributes_that_inodes_share_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[int]()

    def counting(xattrs: Mapping[bytes, bytes]) -> bytes:
        made.append(len(xattrs))
        return xattr_body(xattrs)

    monkeypatch.setattr(erofs_writer, "xattr_body", counting)
    # Two layers, whose files take turns in the order of the tree, and one file with attributes of its own.
    general = [pax_header([xattr(f"user.{at}", f"{layer}") for at in range(100)], "g") for layer in range(2)]
    layers = [(general[layer], *(file(f"{at}") for at in range(layer, 100, 2))) for layer in range(2)]
    round_trip(*layers, (general[0], file("own", pax=[xattr("user.own", "1")])))
    assert sorted(count for count in made if count) == [100] * 4 + [101] * 2


def test_statfs_counts_metadata_and_layers() -> None:
    with tempfile.TemporaryFile() as out:
        size = write_metadata([*walk(merged((file("a"),)))], out.fileno(), LIMIT, 1_000_000)
        (blocks,) = struct.unpack_from("<I", os.pread(out.fileno(), 128, 1024), 36)
    assert blocks == (size + 1_000_000) // BLOCK


def test_data_of_the_layers_is_not_touched() -> None:
    """But for the metadata in front, the file stays as it was verified."""
    layers: Layers = RICH
    data = data_file(*layers)
    assert image_of(*layers)[LIMIT:] == data
