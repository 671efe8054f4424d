"""Partitions where the kernel has VFAT and the device mapper. tests/vm/test_own_kernel.py runs this.

All devices of the kernel that it runs on must be ours.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.base.units import MIB
from bootc_live.landing.disk.partitions.check import check_disk
from bootc_live.landing.disk.partitions.disks import disk_at
from bootc_live.landing.disk.partitions.prepare import partitioned_disk
from bootc_live.system.devices.verity import require_verity, verity_device
from tests.lib.disks import loop, mounted, run
from tests.lib.partitions import SMALL, chosen, disk_of, make, rows_for


@pytest.fixture(autouse=True, scope="module")
def modules() -> None:
    run("modprobe", "loop")
    require_verity()


def test_file(tmp_path: Path) -> None:
    """The boot partition is mounted, and trying fs-verity leaves nothing."""
    target = chosen(tmp_path / "disk", SMALL)
    with partitioned_disk(target, rows_for(target)) as disk:
        assert [os.listdir(made.directory or "") for made in disk.partitions] == [[], ["lost+found"]]
        mounts = {line.split()[1]: line.split()[::2] for line in Path("/proc/mounts").read_text().splitlines()}
        for made, kind in zip(disk.partitions, ("vfat", "ext4"), strict=True):
            assert mounts[made.directory or ""][:2] == [made.device, kind]
        (Path(disk["ESP"].directory or "") / "EFI").mkdir()
    with loop(tmp_path / "disk", f"--offset={MIB}", f"--sizelimit={64 * MIB}") as device:
        assert run("mdir", "-b", "-i", device, "::") == "::/EFI/"


def test_the_kernel_reads_the_table(tmp_path: Path) -> None:
    """What it finds by itself is what it was told."""
    with disk_of(tmp_path / "disk") as device:
        disk = make(chosen(device))
    with loop(tmp_path / "disk", "--partscan") as device:
        for number, made in enumerate(disk.partitions, 1):
            found = run("blkid", "-p", "-o", "value", "-s", "PART_ENTRY_UUID", f"{device}p{number}")
            assert found == made.partuuid
        with mounted(f"{device}p1", tmp_path / "there", "ro") as where:
            assert (where / "file").read_bytes() == b"content"
        again = make(chosen(device), wipe=True)
        assert again.uuid != disk.uuid


@pytest.mark.parametrize("named", [True, False])
def test_other_devices_are_made_of_it(named: bool, tmp_path: Path) -> None:
    """Lsblk knows those that udev has given a name; the others are seen as well."""
    with disk_of(tmp_path / "disk") as device, verity_device(device, 16, "0" * 64) as above:
        name = Path(f"/sys/block/{os.path.basename(above)}/dm/name").read_text().strip()
        link = Path("/dev/mapper", name)
        if named:
            link.symlink_to(above)
        with pytest.raises(ConfigError) as caught:
            make(chosen(device), wipe=True)
        use = f": {link} (dm) is made of {device}" if named else " by another program, or mounted in another namespace"
        assert caught.value.message == f"{device!r} is in use{use}"
        if named:
            with pytest.raises(ConfigError, match=r"^it is read-only"):
                check_disk(disk_at(str(link)))
            link.unlink()
