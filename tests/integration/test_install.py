"""What `install` makes of its options, as the programs that use it see it: nothing is booted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.lib.disk_machine import Machine, disk_image, machine
from tests.lib.disks import probed, run
from tests.lib.forked_program import ForkedProgram
from tests.lib.tar_writer import directory, file, layer

FSTAB_GENERATOR: Final = "/usr/lib/systemd/system-generators/systemd-fstab-generator"


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Machine]:
    """Empty file systems."""
    with machine(tmp_path) as made:
        yield made


def test_systemd_mounts_the_boot_partition(one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    """When somebody uses it: the boot does not wait for it."""
    one.offer(disk_image(1, layer(directory("boot/"), file("etc/fstab", "LABEL=x /data ext4 nofail 0 2\n"))))
    program.run(*one.install).good()
    path, units = one.deployments / "1/etc/fstab", tmp_path / "units"
    units.mkdir()
    subprocess.run([FSTAB_GENERATOR, *[units] * 3], env={"SYSTEMD_FSTAB": str(path)}, check=True)
    device = run("findmnt", "-n", "-o", "SOURCE", one.boot)
    escaped = run("systemd-escape", "--path", f"/dev/disk/by-uuid/{probed(device)['ID_FS_UUID']}")
    mount = (units / "boot.mount").read_text()
    assert "Where=/boot\nType=ext4\n" in mount
    assert f"systemd-fsck@{escaped}.service" in mount
    assert "Where=/boot\nTimeoutIdleSec=2min\n" in (units / "boot.automount").read_text()
    wanted = {unit.name for unit in units.glob("local-fs.target.*/*")}
    assert {"boot.automount", "data.mount"} <= wanted
    assert "boot.mount" not in wanted
    # What the image said comes before it, and is used, too.
    assert path.read_text().startswith("LABEL=x /data ext4 nofail 0 2\n")
