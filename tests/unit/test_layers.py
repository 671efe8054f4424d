"""One member after another, as layer.md of the image-spec has it: replacing, merging, linking, implied parents."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bootc_live.formats.tar.reader import read_members
from bootc_live.formats.tar.sparse import Extent
from bootc_live.rootfs.tree.merge import Merging
from bootc_live.rootfs.tree.node import PARTS, TEXT, XATTRS, Budget
from tests.lib.tar_writer import directory, file, hardlink, layer, node, pax_header, sparse_gnu, symlink, xattr
from tests.unit.merging import SPACING, data_file, merged, node_at, paths

Layers = tuple[tuple[bytes, ...], ...]


def refusal(*layers: tuple[bytes, ...]) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the caller looks at the message)
        merged(*layers)
    return str(caught.value)


def test_everything_of_a_member_arrives() -> None:
    pax = [("mtime", "12345.5"), xattr("user.a", "b"), xattr("security.capability", b"\1\2")]
    found = node_at(merged((file("d/f", b"12345", mode=0o4711, uid=70_000, gid=80_000, pax=pax),)), "d/f")
    assert (found.kind, found.mode, found.uid, found.gid, found.size) == ("file", 0o4711, 70_000, 80_000, 5)
    assert (found.mtime, found.mtime_ns) == (12_345, 500_000_000)
    assert found.xattrs == {b"user.a": b"b", b"security.capability": b"\1\2"}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_data_is_where_it_says(number: int) -> None:
    layers: Layers = ((file("a", "first"),), (file("b", "second"),), (file("x", "y"), file("c", "third")))
    content = (b"first", b"second", b"third")[number]
    found = node_at(merged(*layers), "abc"[number])
    assert data_file(*layers)[found.offset : found.offset + found.size] == content


def test_sparse_extents_move_with_their_layer() -> None:
    found = node_at(merged((), (sparse_gnu("s", 9_000, [(512, b"x" * 10)]),)), "s")
    assert found.extents == (Extent(512, 10, SPACING + 512),)
    assert found.size == 9_000


@pytest.mark.parametrize(
    ("layers", "want"),
    [
        ((), []),
        (((),), []),
        (((file("a"),), (), (file("b"),)), ["a", "b"]),
        (((directory("d/"), file("d/a")), (file("d/b"),)), ["d/", "d/a", "d/b"]),
        (((directory("d"), file("d/a")), (directory("d"), file("d/b"))), ["d/", "d/a", "d/b"]),
        (((file("a/b/c/d"),),), ["a/", "a/b/", "a/b/c/", "a/b/c/d"]),
        (((file("./a"), directory("./"), file("/b"), file("//c"), file("./././d//e")),), ["a", "b", "c", "d/", "d/e"]),
        (((directory("d/"), file("d/a")), (file("d"),)), ["d"]),
        (((file("d"),), (directory("d/"), file("d/a"))), ["d/", "d/a"]),
        (((directory("d/"), file("d/a")), (file("d"),), (directory("d/"),)), ["d/"]),
        (((directory("d/"), file("d/a")), (symlink("d", "e"),)), ["d"]),
        (((symlink("d", "e"),), (directory("d/"),)), ["d/"]),
        (((symlink("d", "e"),), (file("d"),)), ["d"]),
        (((file("a"), file("a"), file("a")),), ["a"]),
        (((directory("d/"), file("d/a"), directory("d/")),), ["d/", "d/a"]),
        (((directory("d/"), file("d/a"), file("d"), directory("d/"), file("d/b")),), ["d/", "d/b"]),
        (((node("n", "char", 1, 3),), (node("n", "fifo"),), (node("n", "block", 8, 0),)), ["n"]),
        (((file(b"\xff\xfe"),),), ["\udcff\udcfe"]),
        (((file("..."), file("..a"), file("a..")),), ["...", "..a", "a.."]),
    ],
)
def test_paths(layers: Layers, want: list[str]) -> None:
    assert paths(merged(*layers)) == want


def test_a_directory_keeps_its_content_and_takes_new_metadata() -> None:
    root = merged(
        (directory("d/", mode=0o700, uid=1, pax=[xattr("user.old", "1")]), file("d/a")),
        (directory("d/", mode=0o755, uid=2, mtime=99, pax=[xattr("user.new", "2")]),),
    )
    found = node_at(root, "d")
    assert (found.mode, found.uid, found.mtime, found.xattrs) == (0o755, 2, 99, {b"user.new": b"2"})
    assert paths(root) == ["d/", "d/a"]


def test_the_root_takes_metadata_too() -> None:
    for name in ("./", ".", "/", "//"):
        root = merged((directory(name, mode=0o711, uid=3, mtime=5),), (file("a"),))
        assert (root.mode, root.uid, root.mtime) == (0o711, 3, 5)


def test_the_root_is_a_directory() -> None:
    for part in (file("."), file("./"), symlink("/", "x"), node("./", "fifo")):
        assert refusal((part,)) == "takes the place of the root directory"


def test_implied_parents_are_plain_directories() -> None:
    root = merged((file("a/b/c", mtime=777),))
    for path in ("a", "a/b"):
        found = node_at(root, path)
        assert (found.kind, found.mode, found.uid, found.gid, found.mtime) == ("dir", 0o755, 0, 0, 777)
        assert found.xattrs == {}


def test_implied_parents_leave_existing_directories_alone() -> None:
    root = merged((directory("d/", mode=0o700, uid=5, mtime=1),), (file("d/a", mtime=99),))
    assert (node_at(root, "d").mode, node_at(root, "d").uid, node_at(root, "d").mtime) == (0o700, 5, 1)


def test_a_late_entry_describes_an_implied_parent() -> None:
    root = merged((file("d/a"), directory("d/", mode=0o700)))
    assert node_at(root, "d").mode == 0o700
    assert paths(root) == ["d/", "d/a"]


@pytest.mark.parametrize(
    "target", ["usr/bin", "/usr/bin", "../usr/bin", "./usr//bin/", "../../../usr/bin", "usr/../usr/bin"]
)
def test_parents_lead_through_links(target: str) -> None:
    """A merged /usr: `bin` is a link, and a later layer writes below it."""
    root = merged((directory("usr/bin/"), symlink("bin", target)), (file("bin/sh", "x"),))
    assert paths(root) == ["bin", "usr/", "usr/bin/", "usr/bin/sh"]
    assert node_at(root, "bin").kind == "symlink"


def test_links_in_links() -> None:
    root = merged(
        (directory("a/b/"), symlink("l1", "l2"), symlink("l2", "a/l3"), symlink("a/l3", "../a/b"), file("l1/f"),)
    )  # fmt: skip
    assert "a/b/f" in paths(root)


def test_links_never_lead_out_of_the_root() -> None:
    root = merged((symlink("up", "../../../../etc"), symlink("abs", "/etc"), file("up/a"), file("abs/b")))
    assert paths(root) == ["abs", "etc/", "etc/a", "etc/b", "up"]


def test_a_directory_entry_replaces_a_link() -> None:
    """As tar does it: the entry's own name is not followed."""
    root = merged((directory("usr/bin/"), symlink("bin", "usr/bin")), (directory("bin/"), file("bin/sh")))
    assert paths(root) == ["bin/", "bin/sh", "usr/", "usr/bin/"]


def test_a_replaced_link_is_not_remembered() -> None:
    """Names resolved before a replacement are resolved anew after it, within one layer."""
    root = merged(
        (directory("x/"), directory("y/"), symlink("l", "x"), file("l/1"), symlink("l", "y"), file("l/2"),)
    )  # fmt: skip
    assert paths(root) == ["l", "x/", "x/1", "y/", "y/2"]
    root = merged((file("d/1"), file("d"), directory("d/"), file("d/2")))
    assert paths(root) == ["d/", "d/2"]


@pytest.mark.parametrize("name", ["../a", "a/../b", "a/..", "..", "/..", "./../a", "d/../../a"])
def test_dot_dot_is_refused(name: str) -> None:
    assert refusal((file(name),)) == "has '..' in its name"
    assert "has '..' in its name" in refusal((file("t"), hardlink("x", name)))


def test_over_long_names() -> None:
    assert paths(merged((file("n" * 255),))) == ["n" * 255]
    assert "has a name of 256 bytes" in refusal((file("n" * 256),))
    assert "has a name of 300 bytes" in refusal((file("n" * 300 + "/x"),))
    longest = "d/" * 2047 + "n"
    assert len(paths(merged((file(longest),)))) == 2048
    assert "has a path of 4096 bytes" in refusal((file("/" + longest),))


def test_nul_in_a_name() -> None:
    assert "NUL" in refusal((file("x", pax=[("path", b"a\0b")]),))


# Targets whose last component is made as a directory on the way to a member.
THROUGH = {
    "a long name": (b"n" * 256, "has a name of 256 bytes"),
    "a name of more than a block": (b"n" * 600, "has a name of 600 bytes"),
    "a name of more than a page": (b"n" * 4095, "has a name of 4095 bytes"),
    "a long name below": (b"x/" + b"n" * 300, "has a name of 300 bytes"),
    "a long name above": (b"n" * 300 + b"/x", "has a name of 300 bytes"),
    "a long name from the root": (b"/x/../" + b"n" * 300, "has a name of 300 bytes"),
    "a long name by a second link": (b"other", "has a name of 300 bytes"),
}


@pytest.mark.parametrize("row", THROUGH)
def test_targets_of_links_make_no_impossible_names(row: str) -> None:
    target, message = THROUGH[row]
    parts = (symlink("other", b"n" * 300), symlink("l", target))
    assert message in refusal((*parts, file("l/x")))
    assert message in refusal(parts, (file("l/x"),))
    assert message in refusal((*parts, file("l/a/b/x")))
    # As long as nobody goes through them, they are links like others.
    assert paths(merged(parts)) == ["l", "other"]
    assert paths(merged((*parts, file("l/.wh.x"), file("l/.wh..wh..opq")))) == ["l", "other"]


@pytest.mark.parametrize("make", [symlink, hardlink])
def test_nul_in_a_target(make: Callable[..., bytes]) -> None:
    assert "NUL" in refusal((file("a"), make("l", "t", pax=[("linkpath", b"a\0b")])))


IMPLIED, STEPS = "directories that no member is for", "steps through symbolic links"
MAPS = "entries in the maps of sparse files"
LONG = "n" * 200
GENERAL = pax_header([xattr("user.a", "v" * 500)], "g")
TWO = [(1, b"x"), (3, b"x")]
BOUNDS: dict[str, tuple[str, int, Layers]] = {
    "members": ("members", 3, ((file("a"), file("a")), (file("a"), file("a")))),
    "implied": (IMPLIED, 3, ((file("a/b/x"),), (file("c/d/x"),))),
    "implied by a link": (IMPLIED, 3, ((symlink("l", "a/b/c/d"), file("l/x")),)),
    "steps": (STEPS, 9, ((symlink("l", "a/b/c/d"), file("l/1/x"), file("l/2/x")),)),
    "steps to hard links": (STEPS, 9, ((symlink("l", "a"), file("l/x"), *[hardlink("h", "l//x")] * 5),)),
    "steps to whiteouts": (STEPS, 9, ((symlink("l", "a"), *[file("l/.wh.x")] * 5, file("l/x")),)),
    "names": (TEXT, 399, ((file(LONG),), (file(LONG),))),
    "links": (TEXT, 400, ((symlink("l", LONG), hardlink("h", "l"), symlink("m", LONG)),)),
    "bytes of attributes": (TEXT, 1000, ((file("a", pax=[xattr("user.a", "v" * 500)]),) * 2,)),
    "bytes of shared attributes": (TEXT, 1200, ((GENERAL, *[file("a")] * 99), (GENERAL, file("b")))),
    "attributes": (XATTRS, 3, ((GENERAL, *[file("a")] * 4),)),
    # Names in a directory that is known by its name cost nothing.
    "parts": (PARTS, 9, ((file("a/b/c"), file("a/b/d"), file("a//b/c"), file("./a//b/c"), file("e")),)),
    "parts of links": (PARTS, 9, ((file("a/b"), *[hardlink("c", "a//b")] * 4),)),
    "parts of whiteouts": (PARTS, 9, ((*[file("a/b/c/.wh.x")] * 3,),)),
    "maps": (MAPS, 3, ((sparse_gnu("a", 99, TWO),), (sparse_gnu("b", 99, TWO),))),
}


@pytest.mark.parametrize("row", BOUNDS)
def test_bounds_of_an_image(row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    what, most, layers = BOUNDS[row]
    monkeypatch.setitem(Budget.MOST, what, most)
    assert f"no image may have more than {most} {what}" in refusal(*layers)
    monkeypatch.setitem(Budget.MOST, what, 3 * most)
    merged(*layers)


def test_attributes_that_linux_does_not_allow_are_left_out() -> None:
    merging, said = Merging(), list[str]()
    pax = [xattr("user.a", "1"), xattr("trusted.t", "2"), xattr("system.posix_acl_default", "3")]
    links = symlink("l", "t", pax=pax), symlink("m", "t", pax=pax)
    special = node("n", "fifo", pax=pax), node("c", "char", 1, 3, pax=pax)
    nameless = file("g", pax=[xattr("", "x"), xattr("user.", "x")])
    tar = layer(*links, *special, file("f", pax=pax), directory("d/", pax=pax), nameless)
    for member in read_members(tar):
        merging.apply(member, 0, 0)
    found = {name: sorted(node.xattrs) for name, node in merging.root.directory.items()}
    only = [b"trusted.t"]
    everything = [b"system.posix_acl_default", b"trusted.t", b"user.a"]
    assert found == {
        b"l": only, b"m": only, b"n": only, b"c": only, b"f": [b"trusted.t", b"user.a"], b"d": everything, b"g": []
    }  # fmt: skip
    merging.tell(said.append)
    assert said == [
        "Linux allows no extended attributes system.posix_acl_* on a symlink: 2 left out",
        "Linux allows no extended attributes system.posix_acl_default* on a char: 1 left out",
        "Linux allows no extended attributes system.posix_acl_default* on a fifo: 1 left out",
        "Linux allows no extended attributes system.posix_acl_default* on a file: 1 left out",
        "Linux allows no extended attributes user.* on a char: 1 left out",
        "Linux allows no extended attributes user.* on a fifo: 1 left out",
        "Linux allows no extended attributes user.* on a symlink: 2 left out",
        "Linux allows no extended attributes without a name: 2 left out",
    ]


def test_global_attributes_are_one_mapping_for_all_members_of_a_kind() -> None:
    pax = pax_header([xattr("user.a", "1"), xattr("trusted.t", "2")], "g")
    own = file("own", pax=[xattr("user.a", "3")])
    root = merged((pax, *(file(f"f{at}") for at in range(3)), own, *(symlink(f"l{at}", "t") for at in range(3))))
    found = {path: node_at(root, path).xattrs for path in paths(root)}
    assert found["own"] == {b"user.a": b"3", b"trusted.t": b"2"}
    for kind, want in (("f", {b"user.a": b"1", b"trusted.t": b"2"}), ("l", {b"trusted.t": b"2"})):
        assert found[f"{kind}0"] == want
        assert len({id(found[f"{kind}{at}"]) for at in range(3)}) == 1


def test_a_file_cannot_be_a_parent() -> None:
    assert refusal((file("a"), file("a/b"))) == "needs 'a' to be a directory, but it is a file"
    assert refusal((node("a", "fifo"),), (file("a/b/c"),)) == "needs 'a' to be a directory, but it is a fifo"
    assert "'t' to be a directory" in refusal((file("t"), symlink("l", "t"), file("l/x")))


def test_links_in_a_circle() -> None:
    assert "too many symbolic links" in refusal((symlink("a", "b"), symlink("b", "a"), file("a/x")))
    assert "too many symbolic links" in refusal((symlink("a", "a"), file("a/x")))
    assert "too many symbolic links" in refusal((symlink("a", "./a/b"), file("a/x")))


def test_hard_links() -> None:
    root = merged((file("a", "x"), hardlink("b", "a"), hardlink("d/c", "./b"), hardlink("e", "/d/c")))
    assert len({id(node_at(root, path)) for path in ("a", "b", "d/c", "e")}) == 1


def test_hard_links_to_lower_layers() -> None:
    root = merged((file("a", "lower"),), (hardlink("b", "a"),))
    assert node_at(root, "a") is node_at(root, "b")
    assert node_at(root, "b").offset < SPACING


def test_replacing_one_name_leaves_the_other() -> None:
    root = merged((file("a", "old"), hardlink("b", "a")), (file("a", "newer"),))
    assert node_at(root, "a").size == 5
    assert node_at(root, "b").size == 3


def test_a_link_takes_the_target_as_it_is_then() -> None:
    root = merged((file("a", "1"), hardlink("b", "a"), file("a", "22"), hardlink("c", "a")))
    assert [node_at(root, path).size for path in ("a", "b", "c")] == [2, 1, 2]


@pytest.mark.parametrize(
    "part", [symlink("a", "nowhere"), node("a", "char", 1, 3), node("a", "fifo"), node("a", "block", 8, 1)]
)
def test_hard_links_to_anything_but_directories(part: bytes) -> None:
    root = merged((part, hardlink("b", "a")))
    assert node_at(root, "a") is node_at(root, "b")


def test_a_hard_link_to_a_link_is_to_the_link() -> None:
    root = merged((file("t", "x"), symlink("a", "t"), hardlink("b", "a")))
    assert node_at(root, "b").kind == "symlink"


def test_a_hard_link_through_linked_directories() -> None:
    root = merged((directory("usr/bin/"), symlink("bin", "usr/bin"), file("usr/bin/a"), hardlink("b", "bin/a")))
    assert node_at(root, "b") is node_at(root, "usr/bin/a")


def test_a_hard_link_to_itself_changes_nothing() -> None:
    root = merged((file("a", "x"), hardlink("a", "a"), hardlink("b", "a"), hardlink("b", "a")))
    assert node_at(root, "a") is node_at(root, "b")
    assert node_at(root, "a").size == 1


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((hardlink("b", "a"),), "is a hard link to 'a', which does not exist"),
        ((hardlink("b", "d/a"),), "is a hard link to 'd/a', which needs 'd', which does not exist"),
        ((hardlink("b", "a"), file("a")), "is a hard link to 'a', which does not exist"),
        ((directory("d/"), hardlink("b", "d")), "is a hard link to the directory 'd'"),
        ((hardlink("b", "/"),), "is a hard link to the root directory"),
        ((hardlink("b", ""),), "is a hard link to the root directory"),
        ((file("f"), hardlink("b", "f/x")), "is a hard link to 'f/x', which needs 'f' to be a directory"),
    ],
)
def test_bad_hard_links(parts: tuple[bytes, ...], message: str) -> None:
    assert message in refusal(parts)


def test_a_failed_link_makes_no_directories() -> None:
    with pytest.raises(ValueError, match="does not exist"):
        merged((hardlink("b", "d/a"),))


def test_symbolic_links() -> None:
    found = node_at(merged((symlink("a", "/x" * 2047),)), "a")
    assert (found.link, found.size, found.mode) == (b"/x" * 2047, 4094, 0o777)
    assert "to a name of 0 bytes" in refusal((symlink("a", ""),))
    assert "to a name of 4096 bytes" in refusal((symlink("a", "x" * 4096),))


def test_device_numbers() -> None:
    assert node_at(merged((node("a", "char", 10, 229),)), "a").device == (10, 229)


def test_owners_that_chown_does_not_take() -> None:
    """The largest number stands for nobody at all, so that all who unpack leave such a file to root."""
    root = merged((file("a", uid=2**32 - 1, gid=7, fmt="gnu"), file("b", uid=7, pax=[("gid", str(2**32 - 1))])))
    assert [(node_at(root, name).uid, node_at(root, name).gid) for name in "ab"] == [(0, 7), (7, 0)]
    assert node_at(merged((directory("./", uid=2**32 - 2),)), ".").uid == 2**32 - 2


@pytest.mark.parametrize(("uid", "gid"), [(2**32, 0), (0, 2**32), (-1, 0), (0, -5)])
def test_owners_beyond_the_possible(uid: int, gid: int) -> None:
    assert "no user and group" in refusal((file("a", uid=uid, gid=gid),))
    told = "no user and group" if uid >= 0 and gid >= 0 else "not a decimal number"
    assert told in refusal((file("a", pax=[("uid", str(uid)), ("gid", str(gid))]),))


@pytest.mark.parametrize("mtime", [2**63, -(2**63) - 1, 10**30])
def test_times_beyond_the_possible(mtime: int) -> None:
    assert "which Linux cannot hold" in refusal((file("a", pax=[("mtime", str(mtime))]),))


@pytest.mark.parametrize("mtime", [2**63 - 1, -(2**63), -1, 0])
def test_extreme_times(mtime: int) -> None:
    assert node_at(merged((file("a", pax=[("mtime", str(mtime))]),)), "a").mtime == mtime


def test_notes_of_an_overlay_are_not_content() -> None:
    pax = [xattr("trusted.overlay.opaque", "y"), xattr("trusted.overlay.redirect", "/x"), xattr("trusted.other", "1")]
    assert node_at(merged((directory("d/", pax=pax),)), "d").xattrs == {b"trusted.other": b"1"}
