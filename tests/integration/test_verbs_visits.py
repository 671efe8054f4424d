"""A verb that is interrupted at any line which takes or gives back something leaves nothing behind."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.lib.boot_images import boot_image
from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import write_archive
from tests.lib.program import ERROR
from tests.lib.zram import devices, own_size

MIB: Final = 2**20
ZRAM_SIZE: Final = own_size(64 * MIB)
# What holds mounts, devices, programs and files.
HOLDING: Final = r"base/(loop|mounts|run)|rootfs/(live_root|ram|workspace|writable)"
BOOT: Final = ("boot", "--sysroot", "{root}", "--receipt", "{receipt}", "--cmdline")


@dataclass(frozen=True)
class Case:
    """A verb, which makes something in `{root}` of `{image}`, and the files it is interrupted in.

    All places are visited only if that is asked for. Otherwise it is every line of the file `closely`, and `count`
    others, evenly spread.
    """

    name: str
    command: tuple[str, ...]
    files: str
    count: int
    closely: str = "none"

    def some(self, places: Sequence[str]) -> list[str]:
        """The places to visit, in their order; the last one is among them."""
        step = -(-len(places) // self.count)
        return [
            place
            for number, place in enumerate(reversed(places))
            if number % step == 0 or place.startswith(self.closely)
        ][::-1]


CASES: Final = (
    Case(
        "boot-tmpfs",
        (*BOOT, "root=bootc-live:{image}"),
        rf"{HOLDING}|cli/boot|landing/(receipt|relabel|sysroot)",
        40,
        "loop.py:",
    ),
    Case(
        "boot-zram",
        (*BOOT, f"root=bootc-live:{{image}} bootc.zram={ZRAM_SIZE} bootc.live.layout=tree"),
        r"base/zram|rootfs/(ram|workspace)",
        12,
        "zram.py:",
    ),
    Case("unpack", ("unpack", "{image}", "{root}/made"), rf"{HOLDING}|cli/(new_results|unpack|workspace)", 10),
    Case("erofs", ("erofs", "{image}", "{root}/made"), r"cli/(erofs|new_results|workspace)", 10),
    Case(
        "netboot",
        ("netboot", "{image}", "--rootfs", "-o", "{root}/made"),
        r"cli/(netboot|new_results)|landing/(netboot|node)_files",
        10,
    ),
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, small: Path) -> Callable[[Case], Path]:
    """What a case works on."""
    bootable = write_archive(tmp_path_factory.mktemp("bootable") / "image.oci", boot_image())
    return lambda case: bootable if case.name == "netboot" else small


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.long)], ids=["some", "every"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_at_lines(
    case: Case, whole: bool, program: ForkedProgram, image: Callable[[Case], Path], tmp_path: Path
) -> None:
    root, receipt = tmp_path / "root", tmp_path / "receipt.json"
    root.mkdir()
    files = rf"/bootc_live/({case.files})\.py$"
    command = [word.format(image=image(case), root=root, receipt=receipt) for word in case.command]
    places = program.places(files, *command)
    _take_away(root, receipt)
    there, endings = _there(), []
    assert len(places) > case.count
    for place in places if whole else case.some(places):
        ended = program.interrupted(files, place, *command)
        endings.append(ended.status)
        if ended.status == 0:
            _take_away(root, receipt)
            continue
        assert ended.status == 1, f"{place}: exit status {ended.status}\n{ended.stderr}"
        assert f"{ERROR}interrupted\n" in ended.stderr, f"{place}:\n{ended.stderr}"
        assert ended.stderr.count(ERROR) == 1, f"{place}:\n{ended.stderr}"
        assert "Traceback" not in ended.stderr, f"{place}:\n{ended.stderr}"
        # All the rest is looked for after the test: that takes long, for so many places.
        assert _there() == there, place
        assert list(tmp_path.iterdir()) == [root], place
        assert list(root.iterdir()) == [], place
        assert not [found for found in devices(ZRAM_SIZE.__eq__) if not found.gone()], f"{place}:\n{ended.stderr}"
    assert endings.count(1) > case.count // 2
    assert endings[-1] == 0


def _there() -> list[str]:
    """Mounts, and what workspaces hold."""
    return [*Path("/proc/self/mountinfo").read_text().splitlines(), *map(str, Path("/run").glob("bootc-live/*"))]


def _take_away(root: Path, receipt: Path) -> None:
    """What a verb is there for."""
    if root.is_mount():
        subprocess.run(["umount", "-R", root], check=True)
        receipt.unlink()
    shutil.rmtree(root)
    root.mkdir()
    for found in devices(ZRAM_SIZE.__eq__):
        found.remove()
