"""How much RAM making an erofs image takes: that of the image, and a little."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.bench_memory import Costs
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.program import Program
from tests.lib.small_image import HERE
from tests.lib.space import tmpfs
from tests.lib.tar_writer import end, file

MIB = 2**20
FILES = 50
FILE = 6 * MIB


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer of 300 MiB that can be packed to half of it."""
    where = tmp_path_factory.mktemp("large")
    tar, packed = where / "tar", where / "tar.gz"
    noise = random.Random(1).randbytes(FILE // 2)
    # Noise that no window reaches back to, and zeros, in turns of 64 KiB.
    content = b"".join(noise[at : at + 64 * 1024] + bytes(64 * 1024) for at in range(0, len(noise), 64 * 1024))
    with tar.open("wb") as out:
        for number in range(FILES):
            out.write(file(f"usr/{number}", content))
        out.write(end())
    with packed.open("wb") as out:
        subprocess.run(["igzip", "-1", "-c", tar], stdout=out, check=True)
    summed = subprocess.run(["sha256sum", tar], stdout=subprocess.PIPE, text=True, check=True).stdout
    tar.unlink()
    layer = Layer(blob=packed, diff_id="sha256:" + summed.split()[0])
    return write_archive(where / "image.oci", Image([layer], architecture=HERE))


@pytest.fixture
def ram(tmp_path: Path) -> Iterator[Path]:
    with tmpfs(tmp_path / "ram", "size=1G") as where:
        yield where


def test_lz4(program: Program, archive: Path, ram: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Never a layer as a whole beside the image that is made of it."""
    size = FILES * FILE
    costs = Costs(watching=True)
    with costs.measured():
        said = program.run("erofs", "--json", "--compress", "lz4", archive, ram / "image").good().stdout
    made = json.loads(said)["size"]
    assert os.path.getsize(ram / "image") == made
    assert 0.49 * size < made < 0.55 * size
    with capsys.disabled():
        print(f"\nerofs, lz4: {costs.peak / size:.3f} of {size // MIB} MiB at the peak, the image is {made / size:.3f}")
    assert costs.peak < 0.7 * size + 110 * MIB
