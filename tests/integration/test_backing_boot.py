"""Boots on zram: the root equals the one on tmpfs, and a boot that fails leaves no device behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootc_live.base.errors import OutOfMemoryError
from bootc_live.config.model import Backing, Zram
from bootc_live.rootfs.layouts.index.layout import index_root
from bootc_live.rootfs.ram import settle
from bootc_live.rootfs.workspace import ram_workspace
from tests.lib.acquiring import acquired
from tests.lib.booted import booted
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.program import Program
from tests.lib.small_image import BASE, HERE
from tests.lib.tar_writer import file, layer
from tests.lib.tree_list import differences, tree_list
from tests.lib.zram import devices, own_size, watched

MIB = 2**20
LAYOUTS = ("index", "erofs", "tree")


def index(archive: Path, backing: Backing, where: Path) -> None:
    """Make an index on a backing."""
    with ram_workspace(backing, str(where / "base")) as place:
        index_root(acquired(Path(place) / "data", str(archive)))
        settle(place)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_boot(layout: str, small: Path, program: Program, tmp_path: Path) -> None:
    kargs = f"root=bootc-live:{small} bootc.live.layout={layout}"
    # By this size it is known as ours: what was handed over lives on, and nobody asks for its device again.
    size = own_size(256 * MIB)
    zram = f"{kargs} bootc.zram={size} bootc.zram.algorithm=lz4"
    try:
        with booted(program, kargs, tmp_path / "tmpfs") as plain, booted(program, zram, tmp_path / "zram") as made:
            assert not differences(tree_list(plain.root), tree_list(made.root))
            (made.root / "etc/new").write_text("x")
            (made.root / "var/new").write_text("x")
            assert len(devices(size.__eq__)) >= 1
    finally:
        for found in devices(size.__eq__):
            found.remove()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with 48 MiB in several layers that nothing makes smaller."""
    layers = [Layer(BASE), *(Layer(layer(file(f"x{number}", os.urandom(16 * MIB)))) for number in range(3))]
    return write_archive(tmp_path_factory.mktemp("large") / "large.oci", Image(layers, architecture=HERE))


@pytest.mark.parametrize(
    ("backing", "message", "hint"),
    [
        (Backing(zram=Zram(32 * MIB)), "has no space left: ", "more than 32.0 MiB with bootc.zram="),
        (Backing(size=32 * MIB, zram=Zram(256 * MIB)), "zram could not take all data: ", "bootc.live.size"),
        (Backing(size=32 * MIB), "has no space left: ", "more than 32.0 MiB with bootc.live.size="),
    ],
    ids=["device", "memory", "tmpfs"],
)
def test_what_runs_full(
    backing: Backing, message: str, hint: str, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever program or thread notices first, it is one error that tells which limit it was."""
    with watched(monkeypatch) as made:
        with pytest.raises(OutOfMemoryError) as caught:
            index(large, backing, tmp_path)
        assert message in caught.value.message
        assert hint in caught.value.hint
        assert made.none_left() or backing.zram is None
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize(
    ("kargs", "named"),
    [
        ("bootc.zram=64M bootc.zram.algorithm=shrink", "algorithm 'shrink'"),
        ("bootc.zram=4K", "zram device of 4 KiB"),
        ("bootc.live.mpol=bind:1000", "bootc.live.mpol=bind:1000"),
    ],
)
def test_what_cannot_be_made(kargs: str, named: str, small: Path, program: Program, tmp_path: Path) -> None:
    program.run("boot", "--cmdline", f"root=bootc-live:{small} {kargs}", "--sysroot", tmp_path).error(named)
    assert list(tmp_path.iterdir()) == []
