"""What one row of the corpus is, and the shortest ways to say one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

from tests.lib.tar_writer import DEFAULT_MTIME, directory, file, layer
from tests.lib.tree_list import Line

Change = Mapping[str, str] | None


@dataclass(frozen=True)
class Case:
    """One image of inflated layers, base first, and what must come of it.

    Without more, the tree is umoci's. `change` corrects umoci's tree (path to fields, None for no such entry),
    `expect` is the whole tree where umoci gives none, `refused` says that the image is an error; `why` tells of the
    difference to umoci. A row that names a difference which is not there fails, so that none outlives its reason.
    """

    name: str
    layers: tuple[bytes, ...]
    change: Mapping[str, Change] = field(default_factory=dict)
    expect: tuple[Line, ...] | None = None
    refused: bool = False
    why: str = ""


class Outcome(TypedDict, total=False):
    """The fields of `Case` that say what is expected."""

    change: Mapping[str, Change]
    expect: tuple[Line, ...] | None
    refused: bool
    why: str


def root(*members: bytes) -> bytes:
    """A layer that says everything about its root directory, so that only the members are awkward."""
    return layer(directory("./"), *members)


def single(name: str, *members: bytes, **outcome: Unpack[Outcome]) -> Case:
    """An image of one layer with an entry for the root and these members."""
    return Case(name, (root(*members),), **outcome)


def stack(name: str, *layers: bytes, **outcome: Unpack[Outcome]) -> Case:
    """An image of these layers, base first."""
    return Case(name, layers, **outcome)


# A directory with files and a directory in it, for what the layer above does to it; and its entry there.
BASE = root(directory("d/"), file("d/a", "a0"), file("d/b", "b0"), directory("d/s/"), file("d/s/x", "x0"))
LATER = DEFAULT_MTIME + 1000
D1 = directory("d/", mode=0o700, mtime=LATER)
