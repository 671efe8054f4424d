"""Too little room to work in: the error tells how much there is, and all of it is free again."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.program import Program
from tests.lib.small_image import BASE, HERE
from tests.lib.space import tmpfs
from tests.lib.tar_writer import end, file, layer

MIB = 2**20
ROOM = 16


def free(where: Path) -> tuple[int, int]:
    """Free bytes and inodes of a file system."""
    usage = os.statvfs(where)
    return usage.f_bavail * usage.f_frsize, usage.f_ffree


def zeros(where: Path, size: int) -> Layer:
    """A layer of one file of zeros, made without holding it in memory: a gigabyte in a megabyte."""
    tar, packed = where / "zeros.tar", where / "zeros.tar.gz"
    with tar.open("wb") as out:
        # 8 GiB and more do not fit octal, less do.
        out.write(file("zeros", b"", size=size))
        out.truncate(out.tell() + size)
        out.seek(0, os.SEEK_END)
        out.write(end())
    with packed.open("wb") as out:
        subprocess.run(["gzip", "-1", "-c", tar], stdout=out, check=True)
    summed = subprocess.run(["sha256sum", tar], stdout=subprocess.PIPE, text=True, check=True).stdout
    tar.unlink()
    return Layer(blob=packed, diff_id="sha256:" + summed.split()[0])


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of two megabytes that unpacks to half a gigabyte."""
    where = tmp_path_factory.mktemp("bomb")
    archive = write_archive(where / "bomb.oci", Image([Layer(BASE), zeros(where, 512 * MIB)], architecture=HERE))
    assert archive.stat().st_size < 4 * MIB
    return archive


def test_layer_larger_than_the_workdir(bomb: Path, program: Program, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with tmpfs(tmp_path / "work", f"size={ROOM}M") as work:
        before = free(work)
        command = ["boot", "--cmdline", f"root=bootc-live:{bomb}", "--sysroot", str(root)]
        # Layers come side by side: the small one may be the first that finds no room.
        told = program.run(*command, "--workdir", work).error(bomb, "has no space left: ", f"{ROOM}.0 MiB", " KiB")
        assert "more memory" in told
        assert free(work) == before
    assert list(root.iterdir()) == []


def test_metadata_larger_than_the_workdir(program: Program, tmp_path: Path) -> None:
    """The layers fit just so, what describes them does not."""
    # With data, because headers that nothing stands between are given back.
    names = [file(f"{'long-name-' * 20}{number}", b"x") for number in range(4000)]
    names.append(file("sbin/init", "x", mode=0o755))
    root = tmp_path / "root"
    root.mkdir()
    archive = write_archive(tmp_path / "image.oci", Image([Layer(layer(*names))], architecture=HERE))
    size = (len(layer(*names)) // 4096 + 1) * 4
    with tmpfs(tmp_path / "work", f"size={size + 64}k") as work:
        before = free(work)
        command = ["boot", "--cmdline", f"root=bootc-live:{archive}", "--sysroot", str(root)]
        told = program.run(*command, "--workdir", work).error("metadata", archive)
        assert re.search(r"has [0-9.]+ MiB, [0-9.]+ [KM]iB of them free", told)
        assert free(work) == before
    with tmpfs(tmp_path / "larger", f"size={size * 2}k") as work:
        program.run("unpack", archive, tmp_path / "tree", "--workdir", work).good()


def test_no_inodes(program: Program, small: Path, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "work", "nr_inodes=2") as work:
        before = free(work)
        program.run("unpack", small, tmp_path / "tree", "--workdir", work).error(work)
        assert free(work) == before
