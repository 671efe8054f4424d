"""``estimate``: what it says of images in a real registry, in archives and behind web servers."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.lib.booted import booted
from tests.lib.oci_writer import Compression, Image, Layer, compress, write_archive, write_layout
from tests.lib.program import Program
from tests.lib.registry import Registry
from tests.lib.small_image import BASE, HERE, archive_of
from tests.lib.tar_writer import file, layer

MIB = 2**20
NOISE = random.Random(21)
# Packs to half.
BULK = layer(file("bulk", b"".join(NOISE.randbytes(512) + bytes(512) for _ in range(6 * 1024))))
MORE = layer(file("more", NOISE.randbytes(900_000)))
TARS = (BASE, BULK, MORE)
UNPACKED = sum(map(len, TARS))


def image(compression: Compression = "gzip") -> Image:
    return Image([Layer(tar, compression) for tar in TARS], architecture=HERE)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive") / "image.oci", image())


def told(program: Program, *argv: str | Path) -> dict[str, Any]:
    """What it says as JSON."""
    data: dict[str, Any] = json.loads(program.run("estimate", "--json", *argv).good().stdout)
    return data


def bases(data: dict[str, Any]) -> dict[int, str]:
    """How each size is known, by what there is to fetch; the small layer is guessed everywhere but in plain tars."""
    return {layer["size"]: layer["basis"] for layer in data["layers"] if layer["size"] > 100_000}


@pytest.mark.parametrize(
    ("compression", "basis"), [("gzip", "gzip trailer"), ("none", "plain tar"), ("zstd", "guessed")]
)
def test_registry(compression: Compression, basis: str, plain: Registry, program: Program, tmp_path: Path) -> None:
    plain.put(write_layout(tmp_path / "layout", image(compression)), "os", compression)
    data = told(program, "--unsecure", plain.source(f"os:{compression}"))
    assert set(bases(data).values()) == {basis}
    assert data["fetched"] == sum(len(compress(tar, compression)) for tar in TARS)
    if basis != "guessed":
        assert data["unpacked"] == pytest.approx(UNPACKED, rel=0.01)


def test_for_people(archive: Path, program: Program) -> None:
    data = told(program, "--memory", "2048", archive)
    text = program.run("estimate", "--memory", "2048", archive).good().stdout
    assert set(data["layouts"]) == {
        "index",
        "erofs",
        "erofs lz4",
        "erofs zstd",
        "tree",
        "index on zram",
        "tree on zram",
    }
    assert "machine   2048.0 MiB of memory" in text
    for name, row in data["layouts"].items():
        line = next(line for line in text.splitlines() if line.startswith(name.ljust(16)))
        assert row["arguments"] in line
        assert f"{row['memory'] / MIB:.1f} MiB" in line
        assert row["fits"]
        assert "does not fit" not in line
    assert text.splitlines()[-1] == f"a boot    fits: {data['verdict']}"
    assert data["boots"]


@pytest.mark.parametrize(
    ("memory", "cmdline", "outlook", "verdict"),
    [
        ("2048", "", "fits", "layout index: needs"),
        ("2048", "bootc.live.layout=tree", "fits", "layout tree: needs"),
        ("2048", "bootc.live.layout=auto", "fits", "layout index, the fastest that fits: needs"),
        ("2048", "bootc.live.erofs bootc.live.compress=zstd bootc.live.size=6M", "tight", "partly a guess"),
        ("128MiB", "", "refused", "does not fit into memory: layout index needs"),
        ("2048", "bootc.live.size=2M", "refused", "2.0 MiB are allowed by bootc.live.size="),
        ("2048", "bootc.zram=3M", "refused", "of that fit into bootc.zram="),
    ],
)
def test_verdicts(memory: str, cmdline: str, outlook: str, verdict: str, archive: Path, program: Program) -> None:
    done = program.run("estimate", "--json", "--memory", memory, "--cmdline", cmdline, archive)
    assert done.status == (1 if outlook == "refused" else 0)
    data = json.loads(done.stdout)
    assert (data["outlook"], data["boots"]) == (outlook, outlook != "refused")
    assert verdict in data["verdict"]
    assert data["machine"]["memory"] == (2048 if memory.startswith("2") else 128) * MIB
    assert data["machine"]["available"] < data["machine"]["memory"]


def test_this_machine(archive: Path, program: Program) -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert told(program, archive)["machine"]["memory"] == total


def test_a_boot_says_the_same(archive: Path, program: Program, tmp_path: Path) -> None:
    data = told(program, archive)
    with booted(program, f"root=bootc-live:{archive}", tmp_path) as made:
        assert made.receipt["bytes"]["estimated"] == data["unpacked"]
        assert made.receipt["memory"]["needed"] == data["layouts"]["index"]["memory"]
        assert made.receipt["ratios"]["estimated_to_unpacked"] == pytest.approx(1, abs=0.01)
        assert f"{data['unpacked'] / MIB:.1f} MiB unpacked" in made.ended.stderr


def test_without_root(archive: Path, nobody: Program, tmp_path: Path) -> None:
    copy = tmp_path / "image.oci"
    copy.write_bytes(archive.read_bytes())
    for part in (tmp_path, *list(tmp_path.parents)[:-2]):
        part.chmod(0o755)
    copy.chmod(0o644)
    assert "a boot    fits: layout index" in nobody.run("estimate", copy).good().stdout


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["/nowhere.oci"], "'/nowhere.oci'"),
        *((["--memory", size, "/nowhere.oci"], f"--memory '{size}'") for size in ("0", "50%", "2 G")),
        (["--cmdline", "bootc.live.layout=round", "/nowhere.oci"], "bootc.live.layout=round"),
        (["ftp:/x"], "ftp:/x"),
    ],
)
def test_errors(argv: list[str], named: str, program: Program) -> None:
    program.run("estimate", *argv).error(named)


def test_an_image_for_another_machine(program: Program, tmp_path: Path) -> None:
    foreign = write_archive(tmp_path / "foreign.oci", Image([Layer(BASE)], architecture="s390x"))
    assert "s390x" in program.run("estimate", foreign).error(foreign)


def test_refused_before_it_is_fetched(plain: Registry, program: Program, tmp_path: Path) -> None:
    """A boot on a machine with too little: told in one error, and nothing but the ends of layers is fetched."""
    plain.put(write_layout(tmp_path / "layout", image()), "os", "large")
    root = tmp_path / "root"
    root.mkdir()
    kargs = f"root=bootc-live:{plain.source('os:large')} bootc.registry.unsecure bootc.live.size=4M"
    message = program.run("boot", "--cmdline", kargs, "--sysroot", root).error(plain.source("os:large"))
    assert "needs 6.9 MiB" in message
    assert "4.0 MiB are allowed by bootc.live.size=" in message
    assert "what would fit: " in message
    assert list(root.iterdir()) == []


@pytest.fixture(scope="module")
def half_noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of 80 MiB that compresses to little more than half."""
    pieces = [NOISE.randbytes(64 * 1024) + bytes(56 * 1024) for _ in range(80 * MIB // (120 * 1024))]
    return archive_of(tmp_path_factory.mktemp("half") / "half.oci", BASE, layer(file("half", b"".join(pieces))))


@pytest.mark.parametrize("layout", ["index", "erofs", "erofs lz4", "erofs zstd", "tree"])
def test_what_is_stated_is_enough(layout: str, half_noise: Path, program: Program, tmp_path: Path) -> None:
    """In a file system of exactly the stated size: data that waits is part of it."""
    row = told(program, half_noise)["layouts"][layout]
    kargs = f"root=bootc-live:{half_noise} {row['arguments']} bootc.live.size={-(-row['image'] // 1024)}K"
    with booted(program, kargs, tmp_path / "boot") as made:
        assert made.receipt["memory"]["image"] == row["image"]
        assert "may not fit" not in made.ended.stderr


def test_auto_boots_what_fits(program: Program, tmp_path: Path) -> None:
    """In 90 MiB, which the tars of the image would not fit into."""
    part = b"".join(NOISE.randbytes(256) + bytes(768) for _ in range(8 * 1024))
    large = archive_of(tmp_path / "large.oci", BASE, layer(file("large", part * 12)))
    kargs = f"root=bootc-live:{large} bootc.live.layout=auto bootc.live.size=90M"
    with booted(program, kargs, tmp_path / "boot") as made:
        receipt = made.receipt
    assert receipt["bytes"]["unpacked"] > 96 * MIB
    assert receipt["layout"] == "erofs"
    assert receipt["root"]["compression"] == "lz4"
    assert "the fastest that fits" in receipt["root"]["why"]
    assert "index needs 97.0 MiB, 90.0 MiB are allowed by bootc.live.size=" in receipt["root"]["why"]
    assert len(receipt["root"]["sha256"]) == 71
    assert receipt["root"]["size"] < receipt["memory"]["image"] < 90 * MIB
