"""A machine whose roots are in slots, from firmware on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.vm.inside import mounts
from tests.vm.installed import SUPERBLOCK, VICTIMS, install
from tests.vm.kinds import Kind
from tests.vm.machines import (
    BROKEN,
    NEW,
    Vendor,
    changes_are_kept,
    goes_on,
    health,
    image,
    names,
    rolled_back,
    switched,
    told,
    vendor,
    without_bytes,
)

__all__ = ["vendor"]


@pytest.mark.long
def test_life_with_slots(vendor: Vendor) -> None:
    """It is upgraded by a soft reboot, and rolled back; the next image does not boot; then blocks are changed."""
    with tempfile.TemporaryDirectory(dir=vendor.directory) as name:
        disk = install(vendor.archive, Path(name) / "disk", Kind.QEMU, "systemd-boot", "--storage", "slots")
        new = vendor.publish(NEW)
        with disk.running() as (ready, host):
            assert image(ready) == vendor.base
            switched(host, vendor.source, new)
            goes_on(host, 2)
            root = mounts(host)["/"]
            assert (root["fstype"], root["source"].startswith("/dev/dm-")) == ("erofs", True)
            changes_are_kept(host)
            host.check_output("bootc-live verify")
            rolled_back(host, left=2)
        assert names(disk) == ["3-1", "2-2"]

        with disk.running() as (ready, host):
            assert image(ready) == vendor.base
            assert host.check_output("cat /etc/mine /etc/late /var/lib/mine") == "mine\nlate\nkept"
            broken = vendor.publish(BROKEN)
            # In the slot of the second one.
            assert told(host, "upgrade")["deployment"] == 3
        assert names(disk) == ["4-3+3", "3-1"]
        disk.count_to_last()
        assert "Kernel panic - not syncing: Attempted to kill init!" in disk.failed()
        assert names(disk) == ["3-1", "4-3+0-3"]

        disk.flip_content(VICTIMS["flipped"], disk.slots[0])
        with disk.running() as (ready, host):
            assert image(ready) == vendor.base
            assert health(host) == {3: "failed", 1: "good"}
            assert without_bytes(told(host, "upgrade")) == {"image": broken, "newer": False, "deployment": None}
            assert "Input/output error" in host.run("cat /usr/share/flipped").stderr
            host.check_output("cat /usr/share/replaced")
            assert len(told(host, "verify", 1)["1"]["changed"]) == 1
        disk.flip_at(disk.slots[0] + SUPERBLOCK)
        assert "can't read superblock on /dev/dm-" in disk.failed()
