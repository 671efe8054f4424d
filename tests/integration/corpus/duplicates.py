"""Entries that stand twice in one layer: the last one holds."""

from __future__ import annotations

from tests.integration.corpus.case import LATER, single
from tests.lib.tar_writer import directory, file, node, symlink, xattr

A0 = file("a", "a0")

CASES = (
    single("duplicate-file-file", A0, file("a", "other text", mode=0o600, mtime=LATER)),
    single("duplicate-file-shorter", file("a", "x" * 10000), file("a", "y")),
    single("duplicate-file-empty", file("a", "x" * 10000), file("a", "")),
    single("duplicate-dir-dir", directory("d/"), file("d/a", "a0"), directory("d/", mode=0o700, uid=3, mtime=LATER)),
    single("duplicate-root", A0, directory("./", mode=0o711, mtime=LATER)),
    single("duplicate-file-then-dir", file("d", "f"), directory("d/"), file("d/a", "a0")),
    single("duplicate-dir-then-file", directory("d/"), file("d/a", "a0"), file("d", "f")),
    single("duplicate-empty-dir-then-file", directory("d/"), file("d", "f")),
    single("duplicate-file-then-symlink", A0, symlink("a", "x")),
    single("duplicate-symlink-then-file", symlink("a", "b"), file("a", "a0")),
    single("duplicate-symlink-then-dir", directory("r/"), symlink("d", "r"), directory("d/"), file("d/n", "n")),
    single("duplicate-dir-then-symlink", directory("d/"), file("d/a", "a0"), symlink("d", "x")),
    single("duplicate-file-then-device", A0, node("a", "char", 1, 3)),
    single("duplicate-xattr-dropped", file("a", "a0", pax=[xattr("user.k", "v")]), file("a", "a1")),
    single(
        "duplicate-xattr-changed",
        file("a", "a0", pax=[xattr("user.k", "v")]),
        file("a", "a1", pax=[xattr("user.j", "w")]),
    ),
    single("duplicate-dir-xattr-dropped", directory("d/", pax=[xattr("user.k", "v")]), directory("d/")),
    single("duplicate-implied-then-explicit", file("d/a", "a0"), directory("d/", mode=0o711, mtime=LATER)),
    single(
        "duplicate-names-differently-written", file("./a", "a0"), file("a", "a1"), file("b//c", "1"), file("./b/c", "2")
    ),
)
