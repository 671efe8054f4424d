"""What the page about disks says of a machine that does not boot any more: every command of it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.lib.disk_fixtures import one, ready, upgrade
from tests.lib.disk_machine import Machine, Next, boots_next, disk_image
from tests.lib.disks import run
from tests.lib.forked_program import ForkedProgram
from tests.lib.pages import blocks

__all__ = ["one", "ready"]

REPO = Path(__file__).resolve().parents[2]


def test_commands_of_the_page(one: Machine, program: ForkedProgram, zipapp: Path, tmp_path: Path) -> None:
    """The first deployment has lost its kernel and the list of its files, and boots next after them."""
    upgrade(program, one, 2)
    one.offer(disk_image(1))
    record = json.loads((one.deployments / "1/deployment.json").read_text())
    (one.store / f"images/{record['root']}.erofs").unlink()
    entry = (one.boot / "loader/entries/bootc-live-1-1.conf").read_text()
    (one.boot / re.findall(r"^linux /(.*)$", entry, re.MULTILINE)[0]).unlink()
    page = (REPO / "docs/disk.md").read_text()
    (text,) = (block.text for block in blocks(page) if block.heading == "A machine that does not boot any more")
    places = {
        "/dev/nvme0n1p2": run("findmnt", "-n", "-o", "SOURCE", one.disk),
        "/dev/nvme0n1p1": run("findmnt", "-n", "-o", "SOURCE", one.boot),
        "/run/": f"{tmp_path}/",
        "bootc-live ": f"{zipapp} ",
    }
    for name, here in places.items():
        assert name in text
        text = text.replace(name, here)
    done = subprocess.run(["sh", "-ec", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert boots_next(one.disk, one.boot) == Next(1, 1)
    for name in ("disk", "boot"):
        assert not (tmp_path / name).is_mount()
