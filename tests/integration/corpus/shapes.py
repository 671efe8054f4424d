"""Whole layers and directories of unusual shape: empty, implied, wide, many."""

from __future__ import annotations

from tests.integration.corpus.case import LATER, root, single, stack
from tests.lib.tar_writer import directory, end, file, hardlink, layer

A = file("a", "a0")

CASES = (
    stack("empty-layer-two-blocks", root(A), end()),
    stack("empty-layer-two-blocks-base", end(), root(A)),
    stack("empty-layer-only", end()),
    stack("empty-layer-zero-bytes", root(A), b""),
    stack("empty-layer-zero-bytes-only", b""),
    stack("empty-layer-one-block", root(A), bytes(512)),
    stack("empty-layer-10k", root(A), bytes(10240)),
    stack("empty-layers-between", root(A), end(), end(), root(file("b", "b3"))),
    stack("root-only-layer", root(A), layer(directory("./", mode=0o700, uid=8, mtime=LATER))),
    stack("implied-root", layer(A)),
    stack("implied-root-above", layer(directory("./", mode=0o711, uid=3, mtime=5), A), layer(file("b", "b1"))),
    single("implied-parent", file("x/y/z", "deep")),
    single("implied-parent-of-dir", directory("x/y/z/", mode=0o700)),
    stack(
        "implied-parent-above-explicit",
        root(directory("x/", mode=0o700, uid=3, gid=4, mtime=5), file("x/a", "0")),
        root(file("x/b", "1")),
    ),
    stack(
        "implied-parent-below-explicit",
        root(file("x/a", "0")),
        root(directory("x/", mode=0o700, uid=3), file("x/b", "1")),
    ),
    single("implied-parent-late-entry", file("x/y/a", "0"), directory("x/y/", mode=0o700), directory("x/", mode=0o711)),
    stack(
        "implied-parent-middle-layer",
        root(directory("x/", mode=0o700)),
        root(file("x/a", "1")),
        root(directory("x/", mode=0o711)),
        root(file("x/b", "3")),
    ),
    stack("implied-then-whiteout", root(file("x/a", "0")), root(file(".wh.x"))),
    stack(
        "dir-metadata-change-only",
        root(directory("x/"), file("x/a", "0")),
        root(directory("x/", mode=0o700, uid=3, mtime=LATER)),
    ),
    stack(
        "dir-mtime-older-above",
        root(directory("x/", mtime=LATER), file("x/a", "0")),
        root(directory("x/", mtime=5), file("x/b", "1")),
    ),
    single("dir-3000-entries", directory("x/"), *(file(f"x/{i:05}", f"{i}") for i in range(3000))),
    stack(
        "dir-3000-entries-second-layer",
        root(directory("x/"), *(file(f"x/{i:05}", "0") for i in range(1500))),
        root(*(file(f"x/{i:05}", "1") for i in range(1200, 2700))),
    ),
    stack(
        "layers-10", *tuple(root(directory("x/"), file(f"x/{i:03}", f"{i}"), file("same", f"{i}")) for i in range(10))
    ),
    stack(
        "layers-200",
        *tuple(root(directory("x/"), file(f"x/{i:03}", f"{i}"), file("same", f"{i}")) for i in range(200)),
    ),
    stack(
        "layers-200-links",
        *tuple(root(directory(f"x{i}/"), file(f"x{i}/a", f"{i}"), hardlink(f"x{i}/b", f"x{i}/a")) for i in range(200)),
    ),
    stack("layer-repeated", root(A), root(file("b", "b1")), root(A)),
    stack("layer-same-blob-twice", root(A), root(A)),
    single("dir-empty", directory("x/")),
    single("dir-3000-subdirs", directory("x/"), *(directory(f"x/{i:04}/") for i in range(3000))),
    single("dir-names-of-every-length", directory("x/"), *(file("x/" + "n" * i) for i in range(1, 256))),
    single(
        "dir-one-name-per-length", *(m for i in range(1, 256) for m in (directory(f"{i}/"), file(f"{i}/" + "n" * i)))
    ),
)
