"""The metadata of the composefs layout, read back: what overlayfs looks for, and nothing of the image's own beside."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import replace

import pytest

from bootc_live.formats.fsverity import metacopy, verity_digest
from bootc_live.rootfs.layouts.composefs.metadata import listed_objects, object_path, write_image
from bootc_live.rootfs.tree.node import Node, new_directory, walk
from tests.lib.tar_writer import directory, file, hardlink, node, symlink, xattr
from tests.unit.erofs_reader import Found, Image
from tests.unit.merging import merged, node_at

DIGEST = verity_digest(b"content")
OF_OBJECT = {
    b"trusted.overlay.redirect": f"/{DIGEST[:2]}/{DIGEST[2:]}".encode(),
    b"trusted.overlay.metacopy": metacopy(DIGEST),
}


def written(root: Node, contents: Mapping[int, str | bytes]) -> bytes:
    """The image of a tree, which stays as it is; its list of objects is what it refers to."""
    fd = os.memfd_create("image")
    before = [(node.kind, node.xattrs) for node in walk(root)]
    try:
        objects = write_image(root, contents, fd)
        assert listed_objects(fd).objects == objects
        assert [(node.kind, node.xattrs) for node in walk(root)] == before
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def read(root: Node, contents: Mapping[int, str | bytes]) -> dict[bytes, Found]:
    """What a reader of EROFS finds in the image of a tree."""
    return Image(written(root, contents)).tree()


def one(made: Node, content: str | bytes | None = None) -> tuple[Found, Found]:
    """The root and the only file of an image."""
    root = new_directory()
    root.directory[b"f"] = made
    found = read(root, {} if content is None else {id(made): content})
    return found[b""], found[b"f"]


# One chunk for all but the largest, whose map is in proportion to it.
@pytest.mark.parametrize("size", [65, 4096, 4097, 2**20, 2**32 + 1, 2**40, 2**43, 2**43 + 1, 2**45])
def test_object(size: int) -> None:
    root = new_directory()
    made = Node(kind="file", mode=0o4755, uid=1, gid=2, mtime=3, mtime_ns=4, size=size, xattrs={b"user.a": b"b"})
    root.directory[b"f"] = made
    image = written(root, {id(made): DIGEST})
    assert image[-64:].hex() == DIGEST + "0" * 64
    inode = image[made.place :]
    assert stat.S_IMODE(int.from_bytes(inode[4:6], "little")) == 0o4755
    assert int.from_bytes(inode[8:16], "little") == size
    chunks = -(-size // (4096 << (inode[16] & 31)))
    assert chunks == max(1, -(-size // 2**43))
    attributes = 12 + sum(-(-(4 + len(n) - n.index(b".") - 1 + len(v)) // 4) * 4 for n, v in OF_OBJECT.items())
    begin = 64 + attributes + 4 + 4
    assert inode[begin : begin + 4 * chunks] == b"\xff" * 4 * chunks


def test_attributes_of_an_object() -> None:
    _, found = one(Node(kind="file", size=70, xattrs={b"user.a": b"b"}), DIGEST)
    assert found.xattrs == {b"user.a": b"b", **OF_OBJECT}
    assert (found.size, found.data) == (70, bytes(70))


@pytest.mark.parametrize("content", [b"", b"x", b"y" * 256], ids=len)
def test_inlined(content: bytes) -> None:
    _, found = one(Node(kind="file", size=len(content)), content)
    assert (found.data, found.xattrs) == (content, {})


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        (b"trusted.overlay.opaque", b"trusted.overlay.overlay.opaque"),
        (b"trusted.overlay.overlay.whiteout", b"trusted.overlay.overlay.overlay.whiteout"),
        (b"trusted.overlay.redirect", b"trusted.overlay.overlay.redirect"),
        # The overlay of the root has the other name space.
        (b"user.overlay.opaque", b"user.overlay.opaque"),
        (b"trusted.overlayx", b"trusted.overlayx"),
    ],
)
def test_own_attributes_are_escaped(name: bytes, escaped: bytes) -> None:
    _, small = one(Node(kind="file", size=1, xattrs={name: b"v"}), b"x")
    assert small.xattrs == {escaped: b"v"}
    _, large = one(Node(kind="file", size=70, xattrs={name: b"v"}), DIGEST)
    assert large.xattrs == {escaped: b"v", **OF_OBJECT}


def test_whiteouts() -> None:
    top, found = one(Node(kind="char", mode=0o600, uid=5, device=(0, 0)))
    assert found.mode == stat.S_IFREG | 0o600
    assert (found.size, found.uid) == (0, 5)
    assert found.xattrs == {b"trusted.overlay.overlay.whiteout": b"", b"user.overlay.whiteout": b""}
    assert top.xattrs == {b"trusted.overlay.overlay.opaque": b"x", b"user.overlay.opaque": b"x"}
    for other in ("char", (1, 0)), ("char", (0, 1)), ("block", (0, 0)):
        top, found = one(Node(kind=other[0], device=other[1]))
        assert (top.xattrs, found.xattrs) == ({}, {})


def test_everything_else_is_unchanged() -> None:
    root = merged(
        (
            directory("./", mtime=1000),
            directory("etc/", mode=0o750, uid=1, gid=2, pax=[xattr("trusted.t", "v")]),
            file("etc/large", b"l" * 1000, mode=0o6755),
            hardlink("etc/again", "etc/large"),
            symlink("link", "x" * 3000),
            node("null", "char", 1, 3, mode=0o666),
            node("fifo", "fifo"),
        )
    )
    found = read(root, {id(node_at(root, "etc/large")): DIGEST})
    assert found[b"etc"].xattrs == {b"trusted.t": b"v"}
    assert (found[b"etc/large"].mode, found[b"etc/large"].size) == (stat.S_IFREG | 0o6755, 1000)
    assert found[b"etc/large"] == found[b"etc/again"]
    assert found[b"link"].data == b"x" * 3000
    assert [stat.S_IFMT(found[name].mode) for name in (b"null", b"fifo")] == [stat.S_IFCHR, stat.S_IFIFO]


def test_same_bytes() -> None:
    """Whatever the order in which names came, and whatever was hidden."""
    members = [file(name, name * size) for name, size in (("a", 100), ("b", 200), ("c", 300))]
    images = set()
    for layers in [(*members,)], [(*reversed(members),)], [(file("a", "hidden"),), (*members,)]:
        root = merged(*layers)
        images.add(written(root, {id(node): verity_digest(bytes(node.size)) for node in walk(root)}))
    assert len(images) == 1


def test_objects_are_listed_once_and_in_order() -> None:
    root = new_directory()
    digests = [verity_digest(bytes([number])) for number in (1, 2, 1, 3)]
    nodes = [Node(kind="file", size=100) for _ in digests]
    root.directory.update({b"%d" % number: replace(made) for number, made in enumerate(nodes)})
    contents: dict[int, str | bytes] = {
        id(made): digest for made, digest in zip(root.directory.values(), digests, strict=True)
    }
    assert written(root, contents)[-128:].hex() == "".join(sorted(set(digests))) + "0" * 64


def test_recipes_are_listed_apart() -> None:
    """An object that a file has is no recipe, whatever it says."""
    root, digests = new_directory(), [verity_digest(b"%d" % number) for number in range(4)]
    made = Node(kind="file", size=100)
    root.directory[b"x"] = made
    fd = os.memfd_create("image")
    try:
        assert write_image(root, {id(made): digests[0]}, fd, [digests[2], digests[1]]) == set(digests[:3])
        assert listed_objects(fd) == (frozenset(digests[:3]), frozenset(digests[1:3]))
    finally:
        os.close(fd)


def test_object_path() -> None:
    assert object_path(DIGEST) == f"{DIGEST[:2]}/{DIGEST[2:]}"


@pytest.mark.parametrize("content", [b"", b"x" * 5000, bytes(5000)])
def test_no_image(content: bytes) -> None:
    fd = os.memfd_create("image")
    os.write(fd, content)
    try:
        with pytest.raises(ValueError, match="has no superblock"):
            listed_objects(fd)
    finally:
        os.close(fd)
