"""The receipt of a boot: written whole or not at all, taken back by a failure, readable for people."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bootc_live import __version__
from bootc_live.base.errors import LandingError
from bootc_live.base.log import Recorder
from bootc_live.base.units import MIB, mib
from bootc_live.config.model import Backing, Compression, Config, Layout, WritableParts, Zram
from bootc_live.image.recipe import Attempt, Fetched
from bootc_live.image.size.estimate import Estimate, LayerEstimate
from bootc_live.image.size.unpacked import Basis
from bootc_live.image.trust import TrustVerdict
from bootc_live.image.verified import VerifiedImage
from bootc_live.receipt.file import read_receipt, written_receipt
from bootc_live.receipt.receipt import Figures, make_receipt
from bootc_live.receipt.text import describe
from bootc_live.rootfs.layouts.built import BuiltRoot
from bootc_live.rootfs.memory.host import Means, MemoryRoom
from bootc_live.rootfs.memory.need import StorageOption, memory_need
from bootc_live.rootfs.plan import choose
from bootc_live.rootfs.writable.state import State
from tests.lib.fetching import fetched_archive
from tests.lib.oci_writer import Image, Layer, sha256, write_archive
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

TARS = [layer(file("a", "x" * 3000)), layer(file("b"))]


@pytest.fixture
def image(tmp_path: Path) -> VerifiedImage:
    path = write_archive(tmp_path / "a.oci", Image([Layer(tar) for tar in TARS], architecture=HERE))
    return fetched_archive(path, "/root.oci", tmp_path / "data")


@pytest.fixture
def receipt(image: VerifiedImage) -> dict[str, object]:
    recorder = Recorder(quiet=True, phases={"fetch": 1.5, "index": 0.25}, warnings=["look out"])
    attempts = (Attempt("docker://a.example/os", "cannot reach it"), Attempt("/root.oci", None))
    room = MemoryRoom(900 * MIB, 1000 * MIB, Backing())
    figures = figures_of(Layout.INDEX, room, 123 * MIB, {"a.example": 7, "b.example": 8})
    fetched = Fetched(image, figures.plan, TrustVerdict(), attempts)
    return make_receipt(Config(parts=WritableParts(root=True)), fetched, figures, recorder)


def test_content(receipt: dict[str, object], image: VerifiedImage) -> None:
    found = json.loads(json.dumps(receipt))
    assert found["version"] == __version__
    assert found["source"] == "/root.oci"
    assert found["layout"] == "index"
    assert found["policy"] == {
        "digests": "verified",
        "pin": None,
        "signatures": "not checked",
        "rules": [],
        "keys": [],
        "signed_identity": None,
        "named_by": None,
        "insecure": False,
    }
    assert found["sources"] == [
        {"source": "docker://a.example/os", "used": False, "error": "cannot reach it"},
        {"source": "/root.oci", "used": True, "error": None},
    ]
    assert found["bytes"]["transferred"] == 15
    assert found["hosts"] == {"a.example": 7, "b.example": 8}
    assert found["writable"] == {"root": True, "etc": True, "var": True, "on": "tmpfs", "state": None}
    assert found["phases"] == {"fetch": 1.5, "index": 0.25}
    assert found["warnings"] == ["look out"]
    assert found["peak_memory"] == 123 * 2**20
    assert found["bytes"]["unpacked"] == sum(map(len, TARS))
    assert found["bytes"]["metadata"] == 4096
    assert found["image"]["manifest_digest"] == image.resolved.manifest_digest
    assert found["image"]["platform"] == f"linux/{HERE}"
    assert [entry["diff_id"] for entry in found["image"]["layers"]] == [sha256(tar) for tar in TARS]
    assert [entry["unpacked"] for entry in found["image"]["layers"]] == [len(tar) for tar in TARS]


def test_written_and_read(receipt: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "new" / "receipt.json"
    with written_receipt(receipt, str(path)):
        assert read_receipt(str(path)) == receipt
    assert read_receipt(str(path)) == receipt
    assert [entry.name for entry in path.parent.iterdir()] == ["receipt.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_takes_it_back(error: type[BaseException], receipt: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    with pytest.raises(error), written_receipt(receipt, str(path)):
        raise error
    assert not path.exists()
    # That of the system which goes on.
    path.write_text("before")
    with pytest.raises(error), written_receipt(receipt, str(path)):
        raise error
    assert path.read_text() == "before"
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("path", ["/dev/full/receipt.json", "/proc/nowhere/receipt.json"])
def test_places_that_cannot_be_written(path: str, receipt: dict[str, object]) -> None:
    with pytest.raises(LandingError) as caught, written_receipt(receipt, path):
        pytest.fail("it went on without its receipt")
    assert caught.value.message.startswith(f"cannot write the receipt {path!r}: ")


def test_a_place_that_is_taken(receipt: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "receipt.json").mkdir()
    with pytest.raises(LandingError, match="Is a directory"), written_receipt(receipt, str(tmp_path / "receipt.json")):
        pytest.fail("it went on without its receipt")
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.endswith(".part")] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no receipt at"), ("", "cannot be read"), ("{", "cannot be read"), ("[]", "is not a JSON object")],
)
def test_bad_receipts(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(LandingError, match=message) as caught:
        read_receipt(str(path))
    assert repr(str(path)) in caught.value.message


def test_for_people(receipt: dict[str, object]) -> None:
    text = "\n".join(describe(receipt))
    assert "image     /root.oci\n" in text
    assert "phases    fetch 1.5 s, index 0.25 s\n" in text
    assert "memory    123.0 MiB at the peak, " in text
    assert "backing   tmpfs\n" in text
    assert text.endswith("not used  cannot reach it\nwarning   look out")
    assert "INSECURE" not in text
    assert "INSECURE" in "\n".join(describe(receipt | {"policy": {"insecure": True}}))


@pytest.mark.parametrize("damaged", [{}, {"image": 7, "bytes": [], "phases": None, "policy": "x", "warnings": {}}])
def test_damaged_parts_are_shown_as_missing(damaged: dict[str, object]) -> None:
    assert "image     None" in describe(damaged)


ESTIMATE = Estimate((LayerEstimate("sha256:1", 40 * MIB, 100 * MIB, 100 * MIB, Basis.TRAILER),))
LZ4 = StorageOption(Layout.EROFS, Compression.LZ4)
NEED = memory_need(LZ4, 100 * MIB).memory
WHY = f"layout erofs lz4: needs {mib(NEED)} of 900.0 MiB"
ZRAM = Backing(size=200 * MIB, zram=Zram(300 * MIB, "zstd", 3))


def figures_of(layout: Layout, room: MemoryRoom, peak: int, hosts: dict[str, int]) -> Figures:
    means = Means(frozenset(Compression), zram=True)
    plan = choose("/root.oci", layout, Compression.LZ4, ESTIMATE, room, means)
    digest = "sha256:" + "a" * 64
    built = BuiltRoot(
        layout,
        lambda where, _: nullcontext(where),
        4096,
        64 * MIB,
        digest,
        labelled=True,
        library="lz4 1.10.0",
        root_hash="b" * 64,
    )
    return Figures(plan, built, peak, hosts)


def full(image: VerifiedImage, layout: Layout, backing: Backing, free: int | None = None) -> dict[str, Any]:
    """The receipt of a boot that left nothing out."""
    figures = figures_of(layout, MemoryRoom(900 * MIB, 1000 * MIB, backing, free), 80 * MIB, {})
    figures = replace(figures, state=State("LABEL=S", "/dev/sda1", "ext4"))
    fetched = Fetched(image, figures.plan, TrustVerdict(), ())
    receipt = make_receipt(Config(backing=backing, layout=layout), fetched, figures, Recorder(quiet=True))
    written: dict[str, Any] = json.loads(json.dumps(receipt))
    return written


def test_the_root(image: VerifiedImage) -> None:
    found = full(image, Layout.EROFS, Backing())
    assert found["layout"] == "erofs"
    assert found["root"] == {
        "compression": "lz4",
        "library": "lz4 1.10.0",
        "asked": {"layout": "erofs", "compression": "none"},
        "why": WHY,
        "size": 64 * MIB,
        "sha256": "sha256:" + "a" * 64,
        "root_hash": "b" * 64,
        "labelled": True,
    }
    assert found["writable"]["state"]["typed"] == "LABEL=S"
    assert found["memory"].keys() == {"total", "available", "needed", "image"}
    assert (found["memory"]["total"], found["memory"]["available"]) == (1000 * MIB, 900 * MIB)
    assert found["memory"]["image"] < found["memory"]["needed"] == NEED
    assert (found["bytes"]["estimated"], found["bytes"]["guessed"]) == (100 * MIB, 0)


def test_ratios(image: VerifiedImage) -> None:
    found = full(image, Layout.INDEX, Backing())
    size = found["bytes"]["unpacked"]
    assert found["ratios"] == {
        "fetched_to_unpacked": round(found["bytes"]["fetched"] / size, 3),
        "estimated_to_unpacked": round(100 * MIB / size, 3),
        "peak_to_unpacked": round(80 * MIB / size, 3),
        "root_to_unpacked": round(64 * MIB / size, 3),
    }


@pytest.mark.parametrize(
    ("backing", "free", "kind", "line"),
    [
        (Backing(), None, "tmpfs", "backing   tmpfs\n"),
        (Backing(size=200 * MIB), None, "tmpfs", "backing   tmpfs, limited to 200.0 MiB\n"),
        (Backing(), 900 * MIB, "directory", "backing   directory\n"),
        (ZRAM, None, "zram", "backing   zram of 300.0 MiB, limited to 200.0 MiB\n"),
    ],
)
def test_backings(backing: Backing, free: int | None, kind: str, line: str, image: VerifiedImage) -> None:
    found = full(image, Layout.INDEX, backing, free)
    assert found["backing"]["kind"] == kind
    assert found["backing"]["size"] == backing.size
    assert line.rstrip("\n") in describe(found)


def test_all_for_people(image: VerifiedImage) -> None:
    lines = describe(full(image, Layout.EROFS, Backing()))
    assert "layout    erofs, lz4 1.10.0" in lines
    assert f"chosen    {WHY}" in lines
    assert "root      sha256:" + "a" * 64 in lines
    assert "verity    " + "b" * 64 in lines
    assert "measured  into PCR 15" in describe({"measured": {"pcr": 15, "events": []}})
    assert not [line for line in lines if line.startswith("measured")]
    assert "state     LABEL=S: ext4 on /dev/sda1" in lines
    assert any(line.endswith("of 900.0 MiB that were available") for line in lines)
