"""zram by sysfs: what is written where, and what other kernels than the present one answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootc_live.base.errors import RunError
from bootc_live.system.devices import zram
from bootc_live.system.devices.zram import failed_writes, memory_limit, zram_below, zram_device

ATTRIBUTES = ("disksize", "mem_limit", "algorithm_params")
ALGORITHMS = "[lzo-rle] lzo lz4 zstd\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a device in a sysfs of plain files, which keep what was written last."""
    monkeypatch.setattr(zram, "_CONTROL", str(tmp_path))
    monkeypatch.setattr(zram, "_BLOCK", str(tmp_path))
    (tmp_path / "hot_add").write_text("7\n")
    (tmp_path / "hot_remove").touch()
    made = tmp_path / "zram7"
    made.mkdir()
    for name in ATTRIBUTES:
        (made / name).touch()
    (made / "comp_algorithm").write_text(ALGORITHMS)
    return made


def said(folder: Path) -> dict[str, str]:
    """What was written to the attributes."""
    return {name: (folder / name).read_text() for name in ATTRIBUTES if (folder / name).exists()}


def test_nothing_but_a_size(folder: Path) -> None:
    with zram_device(4096) as path:
        assert path == "/dev/zram7"
        assert said(folder) == {"disksize": "4096", "mem_limit": "", "algorithm_params": ""}
        assert (folder / "comp_algorithm").read_text() == ALGORITHMS
        assert (folder.parent / "hot_remove").read_text() == ""
    assert (folder.parent / "hot_remove").read_text() == "7"


def test_everything(folder: Path) -> None:
    with zram_device(4096, "zstd", -3, 1024):
        assert said(folder) == {"disksize": "4096", "mem_limit": "1024", "algorithm_params": "level=-3"}
        assert (folder / "comp_algorithm").read_text().startswith("zstd")


@pytest.mark.parametrize("known", ["lzo-rle", "lz4"])
def test_an_algorithm_that_is_in_use_can_be_chosen(known: str, folder: Path) -> None:
    with zram_device(4096, known):
        assert (folder / "comp_algorithm").read_text().startswith(known)


@pytest.mark.parametrize("unknown", ["lz", "[lzo-rle]", "842"])
def test_an_unknown_algorithm(unknown: str, folder: Path) -> None:
    with pytest.raises(RunError) as caught, zram_device(4096, unknown):
        pytest.fail("it was made")
    assert f"algorithm {unknown!r}; it has lzo-rle, lzo, lz4, zstd" in caught.value.message
    assert (folder.parent / "hot_remove").read_text() == "7"


def test_a_kernel_without_levels(folder: Path) -> None:
    (folder / "algorithm_params").unlink()
    with pytest.raises(RunError, match="cannot set the level 3") as caught:
        zram_device(4096, level=3).__enter__()
    assert "Linux 6.12 or later" in caught.value.hint
    assert (folder.parent / "hot_remove").read_text() == "7"


def test_figures(folder: Path) -> None:
    (folder / "mm_stat").write_text(" 1134592    17093   155648      900   155660        1        0        0\n")
    (folder / "io_stat").write_text("       0       26        0       17\n")
    assert memory_limit("/dev/zram7") == 900
    assert failed_writes("/dev/zram7") == 26


@pytest.mark.parametrize("place", ["/proc", "/"])
def test_what_lies_on_no_zram(place: str) -> None:
    assert zram_below(place) is None
