"""Sparse files in GNU's and the three pax forms, and contents of every length about a block."""

from __future__ import annotations

from tests.integration.corpus.case import single
from tests.integration.corpus.expected import a_dir, a_file, holes
from tests.lib.tar_writer import file, sparse_gnu, sparse_pax
from tests.lib.tree_list import Line

EXTENTS = [(0, b"A" * 512), (1 << 20, b"B" * 1000), (3 << 20, b"C" * 512)]
MANY = [(i * 8192, b"%03d" % i * 100) for i in range(40)]


def _tree(size: int, extents: list[tuple[int, bytes]]) -> tuple[Line, ...]:
    return a_dir("."), a_file("after", b"x"), a_file("s", holes(size, extents))


CASES = (
    single(
        "sparse-gnu",
        sparse_gnu("s", (3 << 20) + 512, EXTENTS),
        file("after", "x"),
        expect=_tree((3 << 20) + 512, EXTENTS),
        why="umoci does not know the type",
    ),
    single(
        "sparse-gnu-hole-at-end",
        sparse_gnu("s", 8 << 20, EXTENTS),
        file("after", "x"),
        expect=_tree(8 << 20, EXTENTS),
        why="umoci does not know the type",
    ),
    single(
        "sparse-gnu-many",
        sparse_gnu("s", 40 * 8192, MANY),
        file("after", "x"),
        expect=_tree(40 * 8192, MANY),
        why="umoci does not know the type",
    ),
    single(
        "sparse-gnu-all-hole",
        sparse_gnu("s", 1 << 20, [(1 << 20, b"")]),
        file("after", "x"),
        expect=_tree(1 << 20, []),
        why="umoci does not know the type",
    ),
    single("sparse-pax-0.0", sparse_pax("s", 8 << 20, EXTENTS, version="0.0"), file("after", "x")),
    single("sparse-pax-0.1", sparse_pax("s", 8 << 20, EXTENTS, version="0.1"), file("after", "x")),
    single("sparse-pax-1.0", sparse_pax("s", 8 << 20, EXTENTS), file("after", "x")),
    single("sparse-pax-1.0-many", sparse_pax("s", 40 * 8192, MANY), file("after", "x")),
    single("sparse-pax-1.0-dense", sparse_pax("s", 5, [(0, b"hello")]), file("after", "x")),
    single(
        "content-sizes",
        *(file(f"s{n}", bytes([n % 251]) * n) for n in (0, 1, 0o777, 512, 513, 4095, 4096, 4097, 65536, 1000001)),
    ),
    single("content-zeros", file("z", bytes(1 << 20)), file("e", b"")),
)
