"""A boot that is interrupted at any line which takes or gives back something leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.lib.forked_program import ForkedProgram, forked_program
from tests.lib.program import ERROR
from tests.lib.zram import devices

MIB: Final = 2**20
# What holds mounts, devices, programs and files on either kind of memory.
CASES: Final = {
    "tmpfs": (
        "",
        r"base/(loop|mounts|run)|cli/boot|landing/(receipt|relabel|sysroot)|rootfs/(live_root|ram|workspace|writable)",
    ),
    "zram": ("bootc.zram={size} bootc.live.layout=tree", r"base/zram|rootfs/(ram|workspace)"),
}


@pytest.fixture(scope="module")
def forked(zipapp: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedProgram]:
    with forked_program(zipapp, tmp_path_factory.mktemp("forked")) as running:
        yield running


@pytest.mark.parametrize("backing", CASES)
def test_at_every_line(backing: str, forked: ForkedProgram, small: Path, tmp_path: Path) -> None:
    size = 64 * MIB + os.getpid() * 4096
    root, receipt = tmp_path / "root", tmp_path / "receipt.json"
    root.mkdir()
    kargs, names = CASES[backing]
    files = rf"/bootc_live/({names})\.py$"
    cmdline = f"root=bootc-live:{small} {kargs.format(size=size)}"
    command = ("boot", "--cmdline", cmdline, "--sysroot", root, "--receipt", receipt)
    places = forked.places(files, *command)
    _take_away(root, receipt, size)
    there, endings = _there(), []
    for place in places:
        ended = forked.interrupted(files, place, *command)
        endings.append(ended.status)
        if ended.status == 0:
            _take_away(root, receipt, size)
            continue
        assert ended.status == 1, f"{place}: exit status {ended.status}\n{ended.stderr}"
        assert f"{ERROR}interrupted\n" in ended.stderr, f"{place}:\n{ended.stderr}"
        assert ended.stderr.count(ERROR) == 1, f"{place}:\n{ended.stderr}"
        assert "Traceback" not in ended.stderr, f"{place}:\n{ended.stderr}"
        # All the rest is looked for after the test: that takes long, for so many places.
        assert _there() == there, place
        assert list(tmp_path.iterdir()) == [root], place
        assert list(root.iterdir()) == [], place
        assert not [found for found in devices(size.__eq__) if not found.gone()], f"{place}:\n{ended.stderr}"
    assert endings.count(1) > 100
    assert endings[-1] == 0


def _there() -> list[str]:
    """Mounts, and what workspaces hold."""
    return [*Path("/proc/self/mountinfo").read_text().splitlines(), *map(str, Path("/run").glob("bootc-live/*"))]


def _take_away(root: Path, receipt: Path, size: int) -> None:
    """What a boot is there for."""
    subprocess.run(["umount", "-R", root], check=True)
    receipt.unlink()
    for found in devices(size.__eq__):
        found.remove()
