"""Whatever an image's author writes: it is refused, or the image says exactly what the merged tree is."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress

import pytest

from bootc_live.formats.tar.reader import read_members
from bootc_live.rootfs.tree.merge import Merging
from bootc_live.rootfs.tree.node import Entry, Node, walk
from tests.lib.hostile_trees import Hostile
from tests.lib.tar_writer import layer
from tests.unit.erofs_reader import Image
from tests.unit.merging import SPACING, data_file
from tests.unit.test_erofs_writer import compare, written

SEEDS = range(40)


def readable(part: bytes) -> bool:
    """Tells whether a member can be read at all."""
    try:
        return bool(list(read_members(layer(part))))
    except ValueError:
        return False


def grown(seed: int, wild: float) -> tuple[Node, bytes]:
    """The tree of those members that can be merged, one after the other, and the data file for it."""
    layers = [tuple(part for part in parts if readable(part)) for parts in Hostile(seed, wild).layers()]
    merging = Merging()
    for number, parts in enumerate(layers):
        for member in read_members(layer(*parts)):
            with suppress(ValueError):
                merging.apply(member, number, number * SPACING)
    return merging.root, data_file(*layers)


def outcome(seed: int, wild: float) -> str:
    """Makes one image and reads it back; tells whether it was refused."""
    root, data = grown(seed, wild)
    try:
        image = written(root, data)
    except ValueError:
        return "refused"
    compare(root, data, image)
    return "used"


@pytest.mark.parametrize("wild", [0.0, 0.02, 0.2])
def test_hostile_layers(wild: float) -> None:
    """Refused, or read back as it is."""
    found = Counter(outcome(seed, wild) for seed in SEEDS)
    assert found["used"] > 20
    assert found["refused"] >= 20 * wild


def spoiled(root: Node, numbers: random.Random) -> None:
    """Changes one thing of a tree to something that a fault elsewhere could let through."""
    nodes = list(walk(root))
    holder = numbers.choice([node for node in nodes if node.children is not None])
    victim = numbers.choice(nodes)
    letters = [bytes([numbers.choice(b"/\0.ab\xff")]) for _ in range(numbers.choice((0, 1, 2, 255, 256, 512, 5000)))]
    match numbers.randrange(8):
        case 0 | 1 | 2:
            holder.directory[b"".join(letters)] = Entry(Node("file"), 0)
        case 3:
            holder.directory[b"l"] = Entry(Node("symlink", link=b"".join(letters), size=numbers.randrange(600)), 0)
        case 4:
            victim.xattrs = {b"user." + b"".join(letters): b"v" * numbers.choice((0, 9, 65_535, 65_536))}
        case 5:
            victim.uid, victim.mode = numbers.choice(((-1, 0o644), (2**32, 0), (0, 0o10000), (0, -1), (0, 0o7777)))
        case 6:
            victim.mtime, victim.mtime_ns = numbers.choice(((2**63, 0), (0, -1), (0, 10**9), (-(2**63), 5)))
        case _:
            victim.size = numbers.choice((-1, 2**63, 2**64, victim.size))


def test_trees_that_no_layer_makes() -> None:
    """The writer trusts nobody: what layers cannot say is refused, or it is in the image."""
    refused = 0
    for seed in range(120):
        numbers = random.Random(seed)
        root, data = grown(seed % 20, 0.0)
        spoiled(root, numbers)
        try:
            shape = Image(written(root, data)).tree()
        except ValueError:
            refused += 1
            continue
        assert len(shape) == sum(len(node.children or ()) for node in walk(root)) + 1
    assert 20 < refused < 110
