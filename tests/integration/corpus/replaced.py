"""One kind of file over another (layer.md, "Changeset over existing files"), and names that lead through links."""

from __future__ import annotations

from tests.integration.corpus.case import BASE, D1, root, single, stack
from tests.lib.tar_writer import directory, file, node, symlink

CASES = (
    stack("file-over-dir", BASE, root(file("d", "file"))),
    stack("file-over-dir-and-back", BASE, root(file("d", "file")), root(D1, file("d/n", "n2"))),
    stack("file-over-dir-and-back-implied", BASE, root(file("d", "file")), root(file("d/n", "n2")), refused=True),
    stack("dir-over-file", root(file("d", "file")), root(D1, file("d/n", "n1"))),
    stack("dir-over-file-implied", root(file("d", "file")), root(file("d/n", "n1")), refused=True),
    stack("dir-over-symlink", root(directory("r/"), symlink("d", "r")), root(D1, file("d/n", "n1"))),
    stack("symlink-over-dir", BASE, root(symlink("d", "elsewhere"))),
    stack("symlink-over-file", BASE, root(symlink("d/a", "b"))),
    stack("file-over-symlink", root(symlink("a", "b"), file("b", "b0")), root(file("a", "a1"))),
    stack("file-through-symlinked-dir", root(directory("r/"), symlink("l", "r")), root(file("l/n", "n1"))),
    stack("file-through-absolute-symlink", root(directory("r/"), symlink("l", "/r")), root(file("l/n", "n1"))),
    single("file-through-symlink-same-layer", directory("r/"), symlink("l", "r"), file("l/n", "n1")),
    stack(
        "dir-over-symlink-to-dir-merge",
        root(directory("usr/"), directory("usr/lib/"), symlink("lib", "usr/lib")),
        root(directory("lib/"), file("lib/n", "n1")),
    ),
    single("device-0-0-in-base", directory("d/"), node("d/z", "char", 0, 0), file("d/b", "b0")),
    stack("device-0-0-over-file", BASE, root(directory("d/"), node("d/a", "char", 0, 0))),
    stack(
        "overlay-style-whiteout-then-plain",
        BASE,
        root(directory("d/"), node("d/a", "char", 0, 0)),
        root(directory("d/"), file("d/m", "m2")),
    ),
)
