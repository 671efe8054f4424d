"""Whiteouts and opaque directories hide what lower layers brought, wherever they stand in their layer."""

from __future__ import annotations

import itertools

import pytest

from tests.lib.linear import check_linear
from tests.lib.tar_writer import directory, file, hardlink, node, symlink
from tests.unit.merging import merged, node_at, paths

LOWER = (directory("d/", mode=0o700), file("d/a", "lower"), file("d/b", "lower"), directory("d/s/"), file("d/s/c"))
OPAQUE = file("d/.wh..wh..opq")


def in_any_order(*parts: bytes) -> list[list[str]]:
    """The trees over LOWER that all orders of the upper layer's members make, without duplicates."""
    found: list[list[str]] = []
    for order in itertools.permutations(parts):
        tree = paths(merged(LOWER, order))
        if tree not in found:
            found.append(tree)
    return found


@pytest.mark.parametrize(
    ("upper", "want"),
    [
        ((file("d/.wh.a"),), ["d/", "d/b", "d/s/", "d/s/c"]),
        ((file("d/.wh.s"),), ["d/", "d/a", "d/b"]),
        ((file(".wh.d"),), []),
        ((file("d/.wh.a"), file("d/.wh.b"), file("d/.wh.s")), ["d/"]),
        ((file("d/s/.wh.c"),), ["d/", "d/a", "d/b", "d/s/"]),
        ((file("d/.wh.missing"),), ["d/", "d/a", "d/b", "d/s/", "d/s/c"]),
        ((OPAQUE,), ["d/"]),
        ((file("d/s/.wh..wh..opq"),), ["d/", "d/a", "d/b", "d/s/"]),
        ((file(".wh..wh..opq"),), []),
        ((file("d/.wh.a"), file("d/a", "upper")), ["d/", "d/a", "d/b", "d/s/", "d/s/c"]),
        ((OPAQUE, file("d/a", "upper")), ["d/", "d/a"]),
        ((OPAQUE, file("d/new")), ["d/", "d/new"]),
        ((OPAQUE, directory("d/"), file("d/new")), ["d/", "d/new"]),
        ((OPAQUE, file("d/s/new")), ["d/", "d/s/", "d/s/new"]),
        ((OPAQUE, directory("d/s/")), ["d/", "d/s/"]),
        ((file("d/.wh.s"), file("d/s/new")), ["d/", "d/a", "d/b", "d/s/", "d/s/new"]),
        ((file("d/.wh.s"), directory("d/s/"), file("d/s/new")), ["d/", "d/a", "d/b", "d/s/", "d/s/new"]),
        ((file(".wh.d"), file("d/new")), ["d/", "d/new"]),
        ((file(".wh.d"), directory("d/")), ["d/"]),
        ((file(".wh.d"), file("d/s/new"), file("other")), ["d/", "d/s/", "d/s/new", "other"]),
        ((file("d/.wh.a"), OPAQUE, file("d/new")), ["d/", "d/new"]),
        ((OPAQUE, file("d/.wh.a"), file("d/a")), ["d/", "d/a"]),
        ((file("d/.wh.s"), symlink("d/s", "a")), ["d/", "d/a", "d/b", "d/s"]),
        ((file("d/.wh.a"), node("d/a", "fifo")), ["d/", "d/a", "d/b", "d/s/", "d/s/c"]),
    ],
)
def test_in_every_order(upper: tuple[bytes, ...], want: list[str]) -> None:
    assert in_any_order(*upper) == [want]


@pytest.mark.parametrize("parts", [(file("d/.wh.a"), file("d/a", "upper!")), (file("d/a", "upper!"), file("d/.wh.a"))])
def test_the_layer_s_own_file_stays(parts: tuple[bytes, ...]) -> None:
    assert node_at(merged(LOWER, parts), "d/a").size == 6


@pytest.mark.parametrize("order", [1, -1])
def test_a_directory_made_again_is_as_the_layer_describes_it(order: int) -> None:
    parts = (file(".wh.d"), directory("d/", mode=0o711))
    root = merged(LOWER, parts[::order])
    assert paths(root) == ["d/"]
    assert node_at(root, "d").mode == 0o711


@pytest.mark.parametrize("order", [1, -1])
def test_a_name_linked_again_stays(order: int) -> None:
    """A hard link to a lower file is content of this layer, also where it says what was so before."""
    lower = (file("x/a", "1"), hardlink("y/b", "x/a"))
    upper = (file("y/.wh..wh..opq"), hardlink("y/b", "x/a"))
    root = merged(lower, upper[::order])
    assert paths(root) == ["x/", "x/a", "y/", "y/b"]
    assert node_at(root, "x/a") is node_at(root, "y/b")


@pytest.mark.parametrize("hides", ["d/.wh.b", "d/.wh..wh..opq", ".wh.d"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_link_to_a_lower_file_belongs_to_the_layer_of_the_link(hides: str, order: int) -> None:
    """Not to that of the file: it stays where its own layer hides the name, and the next layer hides it."""
    layers = ((file("a", "x"), hardlink("d/b", "a")), (file(hides), hardlink("d/b", "a"))[::order], (file("d/.wh.b"),))
    assert paths(merged(*layers[:2])) == ["a", "d/", "d/b"]
    assert paths(merged(*layers)) == ["a", "d/"]


def test_one_of_two_names() -> None:
    root = merged((file("a", "x"), hardlink("b", "a")), (file(".wh.a"),))
    assert paths(root) == ["b"]


def test_hide_and_show_again() -> None:
    layers = (LOWER, (file("d/.wh.a"),), (file("d/a", "again!!"),), (OPAQUE,), (file("d/z"),))
    assert paths(merged(*layers[:2])) == ["d/", "d/b", "d/s/", "d/s/c"]
    assert node_at(merged(*layers[:3]), "d/a").size == 7
    assert paths(merged(*layers[:4])) == ["d/"]
    assert paths(merged(*layers)) == ["d/", "d/z"]


def test_a_whiteout_hides_every_lower_layer() -> None:
    assert paths(merged((file("a"),), (file("a"),), (file("b"),), (file(".wh.a"),))) == ["b"]


def test_a_whiteout_through_a_linked_directory() -> None:
    lower = (directory("usr/bin/"), symlink("bin", "usr/bin"), file("usr/bin/sh"))
    assert paths(merged(lower, (file("bin/.wh.sh"),))) == ["bin", "usr/", "usr/bin/"]
    assert paths(merged(lower, (file(".wh.bin"),))) == ["usr/", "usr/bin/", "usr/bin/sh"]
    assert paths(merged(lower, (file("bin/.wh..wh..opq"),))) == ["bin", "usr/", "usr/bin/"]


def test_a_whiteout_of_a_link_leaves_its_target() -> None:
    assert paths(merged((file("t"), symlink("l", "t")), (file(".wh.l"),))) == ["t"]


def test_names_after_a_whiteout_are_resolved_anew() -> None:
    """A parent seen before the whiteout took it away is not written to afterwards."""
    upper = (file("d/s/new1"), file(".wh.d"), file("d/s/new2"))
    assert paths(merged(LOWER, upper)) == ["d/", "d/s/", "d/s/new1", "d/s/new2"]
    lower = (directory("x/"), symlink("l", "x"))
    assert paths(merged(lower, (file("l/1"), file(".wh.l"), file("l/2")))) == ["l/", "l/2", "x/", "x/1"]


def test_whiteouts_in_the_lowest_layer_hide_nothing() -> None:
    assert paths(merged((file(".wh.a"), file("a"), file("d/.wh..wh..opq"), file("d/b")))) == ["a", "d/", "d/b"]


def test_aufs_books_are_not_content() -> None:
    assert paths(merged((file("a"), directory(".wh..wh.plnk/"), file(".wh..wh.aufs"), file("d/.wh..wh.orph")))) == ["a"]


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh."])
def test_whiteouts_of_nothing(name: str) -> None:
    with pytest.raises(ValueError, match="is a whiteout of nothing"):
        merged((), (file(name),))


def test_only_the_prefix_makes_a_whiteout() -> None:
    assert paths(merged((file("wh.a"), file("a.wh.b"), file(".whx"), file(".wh")))) == [".wh", ".whx", "a.wh.b", "wh.a"]


def test_a_whiteout_may_be_any_kind_of_member() -> None:
    for part in (
        file("d/.wh.a", "content"),
        hardlink("d/.wh.a", "d/b"),
        symlink("d/.wh.a", "x"),
        node("d/.wh.a", "fifo"),
    ):
        assert "d/a" not in paths(merged(LOWER, (part,)))


def test_no_directory_is_made_for_a_whiteout() -> None:
    for part in (file("no/.wh.a"), file("no/such/.wh..wh..opq"), file("a/.wh.b")):
        assert paths(merged((file("a"),), (part,))) == ["a"]


def test_deep_trees() -> None:
    deep = "/".join(["d"] * 2000)
    root = merged((file(f"{deep}/f"),), (file(".wh.d"),))
    assert paths(root) == []
    root = merged((file("d/x"), file("d/d/y")), (directory("d/d/"), file("d/d/z"), file(".wh.d")))
    assert paths(root) == ["d/", "d/d/", "d/d/z"]


def test_many_whiteouts_are_quick() -> None:
    """None goes through what another of its layer has been through."""
    lower = tuple(file(f"d/e/{number}") for number in range(1200))
    own = tuple(file(f"d/e/own{number}") for number in range(1200))
    for white in ("d/e/.wh..wh..opq", "d/.wh.e", ".wh.d", "d/.wh..wh..opq", ".wh..wh..opq"):

        def hide(count: int, white: str = white) -> None:
            assert len(paths(merged(lower[:count], (*own[:count], *[file(white)] * count)))) == count + 2

        check_linear(hide, 150)
    # Each of these goes deeper than the last.
    deep = file("d/" * 1000 + "x"), *(file("d/" * at + ".wh.d") for at in range(1000))
    assert len(paths(merged((), (*own, *deep)))) > 2000


def test_what_comes_to_a_hidden_directory_stays() -> None:
    base = (file("d/a"), file("d/s/b"), file("d/s/t/c"))
    assert paths(merged(base, (file(".wh.d"), file("d/s/n"), file("d/.wh.s"), file(".wh..wh..opq")))) == [
        "d/", "d/s/", "d/s/n"
    ]  # fmt: skip
    assert paths(merged(base, (file("d/.wh..wh..opq"), file(".wh.d"), file("x")))) == ["x"]
    assert paths(merged(base, (file("d/s/.wh..wh..opq"), file("d/s/n"), file(".wh.d")))) == ["d/", "d/s/", "d/s/n"]
    # The next layer hides anew.
    assert paths(merged(base, (file(".wh.d"), file("d/n")), (file(".wh.d"),))) == []
