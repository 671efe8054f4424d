"""How a layer's tar ends."""

from __future__ import annotations

from tests.integration.corpus.case import root, stack
from tests.lib.tar_writer import directory, end, file, layer

CASES = (
    stack("archive-no-end", root(file("a", "x"))[:-1024]),
    stack("archive-one-end-block", root(file("a", "x"))[:-512]),
    stack("archive-no-end-layer-above", root(file("a", "x"))[:-1024], root(file("b", "y"))[:-1024]),
    stack("archive-record-padding", root(file("a", "x")) + bytes(10240 - 512 * 5)),
    stack("archive-after-end", root(file("a", "x")) + file("ghost", "boo") + end()),
    stack(
        "archive-one-zero-block-inside",
        layer(directory("./"), file("a", "x"), bytes(512), file("b", "y")),
        refused=True,
    ),
    stack("archive-last-data-unpadded", root(file("a", "hello"))[: 512 * 3 + 5 - 512]),
    stack("archive-odd-tail", root(file("a", "x")) + b"\0" * 100),
)
