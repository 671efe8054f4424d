"""Images of hostile layers before other readers: fsck.erofs finds no fault, the kernel shows what the layers say."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from bootc_live.base.errors import RootfsError
from bootc_live.config.model import Compression
from bootc_live.formats.tar.reader import read_members
from bootc_live.rootfs.tree.merge import Merging
from bootc_live.rootfs.tree.node import Node
from tests.lib.building import Building
from tests.lib.erofs_images import mounted, read_by_erofs_utils
from tests.lib.hostile_trees import Hostile
from tests.lib.tar_writer import layer
from tests.unit.merging import SPACING, data_file, merged
from tests.unit.test_erofs_writer import content_of, written

SEEDS = range(6)
Layers = list[tuple[bytes, ...]]


def accepted(seed: int) -> tuple[Layers, Node]:
    """The members of a seed that can be merged, and the tree that they make."""
    merging, layers = Merging(), Layers()
    for number, parts in enumerate(Hostile(seed, 0.02).layers()):
        kept: list[bytes] = []
        for part in parts:
            with suppress(ValueError):
                base = number * SPACING + sum(map(len, kept))
                for member in read_members(layer(part)):
                    merging.apply(member, number, base)
                kept.append(part)
        layers.append(tuple(kept))
    # Once more: a member that was refused may have left directories on its way.
    return layers, merged(*layers)


def contents(root: Node, data: bytes) -> dict[bytes, object]:
    """Every path of a tree, with what can be read there."""
    found: dict[bytes, object] = {}
    todo = [(b"", root)]
    while todo:
        path, node = todo.pop()
        found[path] = None if node.kind not in ("file", "symlink") else content_of(data, node)
        todo.extend((path + b"/" + name, entry.node) for name, entry in (node.children or {}).items())
    return found


def shown(where: Path) -> dict[bytes, object]:
    """Every path below a mounted root, with what can be read there, by the kernel."""
    top = os.fsencode(where)
    found: dict[bytes, object] = {b"": None}
    for directory, names, files in os.walk(top, onerror=_failed):
        for name in names + files:
            path = os.path.join(directory, name)
            found[path[len(top) :]] = _read(path)
    return found


def _read(path: bytes) -> bytes | None:
    if os.path.islink(path):
        return os.readlink(path)
    return Path(os.fsdecode(path)).read_bytes() if os.path.isfile(path) else None


def _failed(error: OSError) -> None:
    raise error


@pytest.mark.parametrize("seed", SEEDS)
def test_index(seed: int, tmp_path: Path) -> None:
    layers, root = accepted(seed)
    data = data_file(*layers)
    wanted = contents(root, data)
    path = tmp_path / "index"
    try:
        path.write_bytes(written(root, data))
    except ValueError:
        # An attribute or a device that no file system holds.
        return
    os.truncate(path, -(-path.stat().st_size // 4096) * 4096)
    read_by_erofs_utils(path)
    with mounted(path, tmp_path / "root") as where:
        assert shown(where) == wanted


@pytest.mark.parametrize("seed", SEEDS)
def test_images(seed: int, tmp_path: Path) -> None:
    layers, root = accepted(100 + seed)
    wanted = contents(root, data_file(*layers))
    building = Building(tmp_path, list(Compression)[seed % 3])
    try:
        made = building.of([layer(*parts) for parts in layers])
    except RootfsError:
        return
    path = tmp_path / "image"
    path.write_bytes(made)
    read_by_erofs_utils(path)
    with mounted(path, tmp_path / "root") as where:
        assert shown(where) == wanted
