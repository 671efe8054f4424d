"""Whiteouts: image-spec layer.md, "Whiteouts"."""

from __future__ import annotations

from tests.integration.corpus.case import BASE, D1, root, single, stack
from tests.lib.tar_writer import directory, file, hardlink, layer, symlink

CASES = (
    stack("whiteout-file", BASE, root(directory("d/"), file("d/.wh.a"))),
    stack("whiteout-dir", BASE, root(directory("d/"), file("d/.wh.s"))),
    stack("whiteout-top", BASE, root(file(".wh.d"))),
    stack("whiteout-without-parent-entry", BASE, root(file("d/.wh.a"))),
    stack("whiteout-dotslash", BASE, root(directory("./d/"), file("./d/.wh.a"))),
    stack("whiteout-missing-target", BASE, root(directory("d/"), file("d/.wh.nothing"))),
    stack("whiteout-missing-dir", BASE, root(file("no/where/.wh.nothing"))),
    stack("whiteout-only-layer-bare", BASE, layer(file("d/.wh.a"))),
    single("whiteout-in-base-layer", directory("d/"), file("d/.wh.a"), file("d/b", "b0")),
    stack("whiteout-then-readd-next-layer", BASE, root(file("d/.wh.a")), root(file("d/a", "a2"))),
    stack(
        "whiteout-dir-then-readd-next-layer", BASE, root(file("d/.wh.s")), root(directory("d/s/"), file("d/s/y", "y2"))
    ),
    stack("whiteout-twice", BASE, root(directory("d/"), file("d/.wh.a")), root(directory("d/"), file("d/.wh.a"))),
    stack("same-layer-whiteout-before-file", BASE, root(D1, file("d/.wh.a"), file("d/a", "a1"))),
    stack("same-layer-whiteout-after-file", BASE, root(D1, file("d/a", "a1"), file("d/.wh.a"))),
    stack("same-layer-whiteout-before-new-file", BASE, root(D1, file("d/.wh.n"), file("d/n", "n1"))),
    stack("same-layer-whiteout-after-new-file", BASE, root(D1, file("d/n", "n1"), file("d/.wh.n"))),
    stack("same-layer-whiteout-before-dir", BASE, root(D1, file("d/.wh.s"), directory("d/s/"), file("d/s/y", "y1"))),
    stack("same-layer-whiteout-after-dir", BASE, root(D1, directory("d/s/"), file("d/s/y", "y1"), file("d/.wh.s"))),
    stack(
        "same-layer-whiteout-between-dir-and-child",
        BASE,
        root(D1, directory("d/s/"), file("d/.wh.s"), file("d/s/y", "y1")),
    ),
    stack("same-layer-whiteout-before-implied-dir", BASE, root(D1, file("d/.wh.s"), file("d/s/y", "y1"))),
    stack("same-layer-whiteout-after-child-implied-dir", BASE, root(D1, file("d/s/y", "y1"), file("d/.wh.s"))),
    stack(
        "same-layer-whiteout-of-hardlink-target",
        root(file("a", "a0"), hardlink("b", "a")),
        root(file("c", "c1"), hardlink("e", "c"), file(".wh.c")),
    ),
    stack("whiteout-one-name-of-hardlink", root(file("a", "a0"), hardlink("b", "a")), root(file(".wh.a"))),
    stack(
        "whiteout-under-symlinked-dir",
        root(directory("r/"), file("r/a", "a0"), symlink("l", "r")),
        root(file("l/.wh.a")),
    ),
    stack(
        "name-that-looks-like-whiteout",
        BASE,
        root(directory("d/"), file("d/.whiteout", "w"), file("d/wh.a", "w"), file("d/.wha", "w")),
    ),
    stack("whiteout-with-content", BASE, root(directory("d/"), file("d/.wh.a", "some text"))),
    stack("whiteout-as-dir-entry", BASE, root(directory("d/"), directory("d/.wh.s/"))),
    stack("whiteout-as-hardlink", BASE, root(directory("d/"), file("d/.wh.a"), hardlink("d/.wh.b", "d/.wh.a"))),
    stack("whiteout-as-symlink", BASE, root(directory("d/"), symlink("d/.wh.a", "b"))),
    stack("aufs-plnk-dir", BASE, root(directory(".wh..wh.plnk/"), directory(".wh..wh.orph/"), file(".wh..wh.aufs"))),
    stack(
        "whiteout-empty-name",
        BASE,
        root(directory("d/"), file("d/.wh.")),
        refused=True,
        why="umoci empties the directory; the name says nothing",
    ),
    stack(
        "whiteout-dot",
        BASE,
        root(directory("d/"), file("d/.wh..")),
        refused=True,
        why="umoci removes the directory's content; the name says nothing",
    ),
    stack("whiteout-dotdot", BASE, root(directory("d/"), file("d/.wh...")), refused=True),
)
