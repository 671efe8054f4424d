"""Opaque directories: image-spec layer.md, "Opaque Whiteout"."""

from __future__ import annotations

from tests.integration.corpus.case import BASE, D1, root, single, stack
from tests.lib.tar_writer import directory, file, symlink

OPAQUE = "d/.wh..wh..opq"

CASES = (
    stack("opaque-first", BASE, root(D1, file(OPAQUE), file("d/n", "n1"))),
    stack("opaque-last", BASE, root(D1, file("d/n", "n1"), file("d/b", "b1"), file(OPAQUE))),
    stack("opaque-middle", BASE, root(D1, file("d/n", "n1"), file(OPAQUE), file("d/b", "b1"))),
    stack("opaque-before-dir-entry", BASE, root(file(OPAQUE), file("d/n", "n1"), D1)),
    stack("opaque-without-dir-entry", BASE, root(file(OPAQUE), file("d/n", "n1"))),
    stack("opaque-only", BASE, root(file(OPAQUE))),
    stack("opaque-empty-dir", BASE, root(D1, file(OPAQUE))),
    stack("opaque-nested", BASE, root(D1, file(OPAQUE), directory("d/s/"), file("d/s/y", "y1"))),
    stack("opaque-nested-implied", BASE, root(D1, file(OPAQUE), file("d/s/y", "y1"))),
    stack("opaque-sub-of-plain", BASE, root(D1, directory("d/s/"), file("d/s/.wh..wh..opq"), file("d/s/y", "y1"))),
    stack("opaque-last-with-subdir", BASE, root(D1, directory("d/s/"), file("d/s/y", "y1"), file(OPAQUE))),
    stack("opaque-root", BASE, root(file(".wh..wh..opq"), file("n", "n1"))),
    stack("opaque-root-last", BASE, root(file("n", "n1"), file(".wh..wh..opq"))),
    single("opaque-in-base-layer", directory("d/"), file(OPAQUE), file("d/a", "a0")),
    stack("opaque-twice", BASE, root(D1, file(OPAQUE), file("d/n", "n1")), root(D1, file(OPAQUE), file("d/m", "m2"))),
    stack(
        "opaque-then-plain", BASE, root(D1, file(OPAQUE), file("d/n", "n1")), root(directory("d/"), file("d/m", "m2"))
    ),
    stack("opaque-and-whiteout", BASE, root(D1, file(OPAQUE), file("d/.wh.a"), file("d/n", "n1"))),
    stack("opaque-over-file", root(file("d", "file")), root(D1, file(OPAQUE), file("d/n", "n1"))),
    stack(
        "opaque-on-symlinked-dir",
        root(directory("r/"), file("r/a", "a0"), symlink("l", "r")),
        root(file("l/.wh..wh..opq"), file("l/n", "n1")),
    ),
    stack("opaque-five-times", BASE, *(root(D1, file(OPAQUE), file(f"d/n{i}", f"{i}")) for i in range(5))),
)
