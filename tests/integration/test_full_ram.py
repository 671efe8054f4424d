"""An image that lies about its size gets past the estimate, fills what it may have, and ends in one clear error."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from tests.lib.leaks import nothing_left
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.program import Program
from tests.lib.small_image import BASE, HERE
from tests.lib.tar_writer import file, layer

MIB = 2**20
UNPACKED = 64
# What the layer says of itself: hardly more than there is to fetch, and far from the truth.
SAID = 38
ROOM = 56


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive whose large layer gzip packs to half, LZ4 and zram not at all: random digits."""
    digits = random.Random(17).randbytes(UNPACKED // 2 * MIB).hex().encode()
    said = {"ci.umo.uncompressed_blob_size": str(SAID * MIB)}
    layers = [Layer(BASE), Layer(layer(file("digits", digits)), annotations=said)]
    archive = write_archive(tmp_path_factory.mktemp("liar") / "liar.oci", Image(layers, architecture=HERE))
    assert archive.stat().st_size < SAID * MIB
    return archive


# Layers come side by side: which of them finds no room is not known before.
@pytest.mark.parametrize(
    ("kargs", "told"),
    [
        (f"bootc.live.layout=index bootc.live.size={ROOM}M", f"layer .* has no space left: .* has {ROOM}.0 MiB"),
        (f"bootc.live.layout=tree bootc.live.size={ROOM}M", f"layer .* has no space left: .* has {ROOM}.0 MiB"),
        (f"bootc.live.layout=erofs bootc.live.compress=lz4 bootc.live.size={ROOM}M", "has no space left: .* has"),
        ("bootc.live.layout=index bootc.zram=62M", "layer .* has no space left: .* has"),
        ("bootc.live.layout=erofs bootc.live.compress=lz4 bootc.zram=62M", "has no space left: .* has"),
        ("bootc.live.layout=tree bootc.zram=512M bootc.live.size=56M", "zram could not take all data"),
    ],
)
def test_full(kargs: str, told: str, liar: Path, program: Program, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with nothing_left(tmp_path):
        ended = program.run("boot", "--cmdline", f"root=bootc-live:{liar} {kargs}", "--sysroot", root)
        message = ended.error()
    assert re.search(told, message), message
    assert "does not fit" not in ended.stderr
    assert list(root.iterdir()) == []


def test_the_truth_is_refused(liar: Path, program: Program, tmp_path: Path) -> None:
    """What is to be fetched cannot be lied about."""
    root = tmp_path / "root"
    root.mkdir()
    kargs = f"root=bootc-live:{liar} bootc.live.size=30M"
    assert "does not fit" in program.run("boot", "--cmdline", kargs, "--sysroot", root).error(liar)
