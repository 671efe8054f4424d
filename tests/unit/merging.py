"""Layers from hand-made members, merged to a tree, and the tree as text."""

from __future__ import annotations

from bootc_live.formats.tar.reader import read_members
from bootc_live.rootfs.tree.merge import Merging
from bootc_live.rootfs.tree.node import Node, split
from tests.lib.tar_writer import layer

SPACING = 1 << 20


def merged(*layers: tuple[bytes, ...]) -> Node:
    """The tree that the layers make, each given as its members; layer N's data begins at N MiB."""
    merging = Merging()
    for number, parts in enumerate(layers):
        for member in read_members(layer(*parts)):
            merging.apply(member, number, number * SPACING)
    return merging.root


def data_file(*layers: tuple[bytes, ...]) -> bytes:
    """The bytes that the offsets in `merged()` of the same layers point into."""
    return b"".join(layer(*parts).ljust(SPACING, b"\0") for parts in layers)


def paths(root: Node) -> list[str]:
    """Every path of a tree, directories with a closing slash, in byte order."""
    found, todo = [], [("", root)]
    while todo:
        prefix, holder = todo.pop()
        for name, node in holder.directory.items():
            path = prefix + name.decode(errors="surrogateescape")
            if node.children is not None:
                path += "/"
                todo.append((path, node))
            found.append(path)
    return sorted(found)


def node_at(root: Node, path: str) -> Node:
    """The node of a path, no link followed."""
    node = root
    for part in split(path.encode(errors="surrogateescape")):
        node = node.directory[part]
    return node
