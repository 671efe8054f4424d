"""State on a disk over two boots of one guest: power is cut after the first, the second one is shut down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.builder import in_builder
from tests.vm.conftest import Stage
from tests.vm.inside import connect, mounts, power_off
from tests.vm.kinds import Kind, own_kernel
from tests.vm.rows import FAILING
from vmkit.base import BaseGuest
from vmkit.guest import Guest
from vmkit.paths import OUT
from vmkit.start import Kernel
from vmkit.uml import UmlGuest

BOOT_SECONDS = 900
OFF_SECONDS = 180
ASKED = "root=bootc-live:/root.oci bootc.live.state=LABEL=STATE bootc.live.state.required"


@pytest.fixture
def disk(stage: Stage) -> Path:
    """A disk for state, as a user would make it."""
    path = stage.directory / "state.ext4"
    in_builder("mke2fs", "-q", "-t", "ext4", "-L", "STATE", path, "256M")
    return path


def guest(kind: Kind, disk: Path, *initrds: str) -> BaseGuest:
    """The guest with the disk; each boot of it may have other initrds."""
    start = Kernel(initrds=[OUT / name for name in initrds], append=f"{FAILING} {ASKED}")
    if kind is Kind.UML:
        return UmlGuest(start, kept=[disk])
    return Guest(start, extra=["-drive", f"file={disk},format=raw,if=virtio,cache=writethrough"])


@pytest.mark.parametrize("kind", [own_kernel(), pytest.param(Kind.QEMU, marks=pytest.mark.long, id="in QEMU")])
def test_two_boots(kind: Kind, disk: Path) -> None:
    with guest(kind, disk, "initrd-nosystemd.img", "rootfs.cpio") as first:
        first.wait_ready(BOOT_SECONDS)
        host = connect(first, lasting=True)
        table = mounts(host)
        assert (table["/var"]["fstype"], table["/etc"]["fstype"]) == ("ext4", "overlay")
        machine = host.check_output("cat /etc/machine-id")
        host.check_output("echo changed-name >/etc/hostname && rm /etc/issue && echo kept >/var/lib/mine && sync")
    with guest(kind, disk, "initrd-embedded.img") as second:
        ready = second.wait_ready(BOOT_SECONDS)
        host = connect(second, lasting=True)
        assert host.check_output("cat /var/lib/mine /etc/hostname") == "kept\nchanged-name"
        assert host.check_output("hostname") == "changed-name"
        assert host.check_output("cat /etc/machine-id") == machine
        assert not host.file("/etc/issue").exists
        # No image has modules for User-mode Linux.
        assert len((ready.receipt or {})["warnings"]) == (kind is Kind.UML)
        assert host.check_output("systemctl --failed --plain --no-legend") == ""
        before = len(second.console())
        power_off(host)
        second.wait_exit(OFF_SECONDS)
        said = second.console()[before:]
    assert "reboot: Power down" in said
    for complaint in ("Failed unmounting", "Failed to unmount", "FAILED"):
        assert complaint not in said
    assert "clean" in in_builder("e2fsck", "-n", disk)
