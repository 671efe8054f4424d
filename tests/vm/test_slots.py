"""A root in a slot, from the initramfs on. See also tests/integration/slots_device.py."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.vm.builder import in_builder
from tests.vm.inside import connect, mounts, power_off
from tests.vm.kinds import Kind, own_kernel
from vmkit.base import BaseGuest
from vmkit.guest import Guest
from vmkit.paths import OUT, REPO, ZIPAPP
from vmkit.start import Kernel
from vmkit.uml import UmlGuest

SECONDS = 600
# The image has no modules for User-mode Linux, so the initramfs loads what mounts the boot partition.
_DRIVERS = " ".join(f"rd.driver.pre={name}" for name in ("vfat", "nls_cp437", "nls_iso8859-1"))


def test_boot() -> None:
    """From the initramfs on; without its superblock, nothing starts."""
    with tempfile.TemporaryDirectory(prefix="vm-tests-", dir=REPO / "build") as name:
        disk = Path(name) / "disk"
        source = ("--source", OUT / "live.oci", "--initrd", OUT / "initrd.img")
        said = in_builder(ZIPAPP, "install", "to-disk", disk, "--size", "2G", *source, "--storage", "slots", "--json")
        cmdline = f"{_DRIVERS} rd.shell=0 rd.emergency=poweroff {json.loads(said)['cmdline']}"
        with _guest(disk, cmdline) as guest:
            assert guest.wait_ready(SECONDS).failed == 0
            host = connect(guest)
            root = mounts(host)["/"]
            assert (root["fstype"], root["source"].startswith("/dev/dm-")) == ("erofs", True)
            slots = host.check_output("lsblk --noheadings --raw --output PARTLABEL,MOUNTPOINTS | grep ^slot")
            assert slots.split() == ["slotA", "slotB"]
            host.check_output("echo kept >/etc/mine && echo kept >/var/mine")
            power_off(host)
            guest.wait_exit(SECONDS)
        parts = json.loads(in_builder("sfdisk", "--json", disk))["partitiontable"]["partitions"]
        with disk.open("r+b") as file:
            file.seek(parts[1]["start"] * 512 + 1024)
            file.write(b"x")
        with _guest(disk, cmdline) as guest:
            guest.wait_exit(SECONDS)
            assert "can't read superblock on /dev/dm-" in guest.console()


def _guest(disk: Path, cmdline: str) -> BaseGuest:
    if own_kernel() is Kind.UML:
        return UmlGuest(Kernel(initrds=[OUT / "initrd.img"], append=cmdline), kept=[disk])
    kernel = Kernel(OUT / "vmlinuz", initrds=[OUT / "initrd.img"], append=cmdline)
    return Guest(kernel, extra=["-drive", f"file={disk},format=raw,if=virtio"])
