"""Hard links whose names stand in different layers."""

from __future__ import annotations

from tests.integration.corpus.case import LATER, root, stack
from tests.lib.tar_writer import directory, file, hardlink, node, symlink, xattr

A0 = file("a", "a0")

CASES = (
    stack("hardlink-to-lower", root(A0), root(hardlink("b", "a"))),
    stack(
        "hardlink-to-lower-in-dir",
        root(directory("d/"), file("d/a", "a0")),
        root(directory("d/"), hardlink("d/b", "d/a")),
    ),
    stack("hardlink-to-lower-twice", root(A0), root(hardlink("b", "a"), hardlink("c", "a"))),
    stack("hardlink-to-lower-chain", root(A0), root(hardlink("b", "a"), hardlink("c", "b"))),
    stack("hardlink-to-lower-with-lower-links", root(A0, hardlink("z", "a")), root(hardlink("b", "a"))),
    stack("hardlink-to-lower-of-lower", root(A0), root(hardlink("b", "a")), root(hardlink("c", "b"))),
    stack("hardlink-to-lower-whiteout-target", root(A0), root(hardlink("b", "a"), file(".wh.a"))),
    stack("hardlink-to-lower-whiteout-target-first", root(A0), root(file(".wh.a"), hardlink("b", "a")), refused=True),
    stack("hardlink-to-lower-target-replaced-after", root(A0), root(hardlink("b", "a"), file("a", "a1"))),
    stack("hardlink-to-lower-target-replaced-before", root(A0), root(file("a", "a1"), hardlink("b", "a"))),
    stack("hardlink-to-lower-other-metadata", root(A0), root(hardlink("b", "a", mode=0o4755, uid=7, mtime=LATER))),
    stack("hardlink-to-lower-with-xattr", root(file("a", "a0", pax=[xattr("user.k", "v")])), root(hardlink("b", "a"))),
    stack("hardlink-to-lower-symlink", root(symlink("l", "x")), root(hardlink("m", "l"))),
    stack("hardlink-to-lower-device", root(node("n", "char", 1, 3)), root(hardlink("m", "n"))),
    stack("hardlink-to-lower-empty", root(file("a")), root(hardlink("b", "a"))),
    stack(
        "hardlink-group-one-name-replaced-above",
        root(A0, hardlink("b", "a"), hardlink("c", "a")),
        root(file("b", "b1")),
    ),
    stack("hardlink-group-repeated-above", root(A0, hardlink("b", "a")), root(file("a", "a0"), hardlink("b", "a"))),
    stack(
        "hardlink-group-first-name-whited-out", root(A0, hardlink("b", "a"), hardlink("c", "a")), root(file(".wh.a"))
    ),
    stack(
        "hardlink-group-all-names-whited-out-but-one",
        root(A0, hardlink("b", "a"), hardlink("c", "a")),
        root(file(".wh.a"), file(".wh.b")),
    ),
    stack("hardlink-group-metadata-changed-above", root(A0, hardlink("b", "a")), root(file("a", "a0", mode=0o600))),
)
