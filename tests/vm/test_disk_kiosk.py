"""A machine on a disk that looks after itself, from firmware on."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import pytest

from tests.lib.fault_files import Files
from tests.lib.fault_server import fault_server
from tests.lib.registry import GUEST
from tests.lib.tar_writer import file, layer
from tests.vm.installed import JUDGE, build, install
from tests.vm.kinds import Kind
from tests.vm.machines import NEW, Vendor, deployments, goes_on, health, image, names, told, vendor
from vmkit.paths import REPO, VM, ZIPAPP

__all__ = ["vendor"]

# Its units are those of the repository; it works unless the image has a file.
KIOSK: Final = (
    "[Unit]\nDescription=The kiosk\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=test ! -e /usr/share/sick\n"
)
BLESS: Final = [
    f"usr/lib/systemd/{name}"
    for name in (
        "systemd-bless-boot",
        "system/systemd-bless-boot.service",
        "system-generators/systemd-bless-boot-generator",
    )
]
SICK: Final = layer(file("usr/share/sick", "it does not work"))


@pytest.mark.long
def test_self_updating_kiosk(vendor: Vendor) -> None:
    """It forgets all changes, follows a pointer, goes back by itself from an image that is sick, and takes the next.

    That by a soft reboot. GRUB starts it, from XFS.
    """
    with (
        tempfile.TemporaryDirectory(dir=vendor.directory) as name,
        fault_server(Files(served := dict[str, Path]())) as server,
    ):
        directory = Path(name)

        def publish(*sources: Path) -> str:
            """Let the pointer name a new image; return its digest."""
            made = build(directory / f"{len(served)}.oci", kiosk, *sources)
            said = json.loads(
                subprocess.check_output([sys.executable, ZIPAPP, "publish", made, directory / "www", "--json"])
            )
            served.update({f"/os/{file.name}": file for file in (directory / "www").iterdir()})
            return str(said["digest"])

        kiosk = kiosk_archive(vendor.archive, directory)
        options = ("--auto-update", "--success-unit", "kiosk.service", "--state", "volatile", "--filesystem", "xfs")
        disk = install(kiosk, directory / "disk", Kind.QEMU, "grub", *options)
        (directory / "sick.tar").write_bytes(SICK)
        sick = publish(directory / "sick.tar")
        with disk.running() as (_, host):
            host.check_output("echo mine >/etc/mine && echo mine >/var/mine")
            # It may be on its way.
            host.check_output("systemctl start bootc-live-health.service")
            units = "bootc-live-update.timer bootc-live-health.target kiosk.service"
            assert host.check_output(f"systemctl is-active {units}") == "active\n" * 2 + "active"
            assert told(host, f"switch http://{GUEST}:{server.port}/os/latest.json")["deployment"] == 2
        assert names(disk) == ["2-2+3", "1-1"]

        for expected in (["2-2+2-1", "1-1"], ["1-1", "2-2+0-3"]):
            said = disk.failed()
            assert re.search(r"Failed to start .*The kiosk", said)
            assert "reboot: Restarting system" in said
            assert names(disk) == expected
            disk.count_to_last()

        with disk.running() as (_, host):
            assert health(host) == {2: "failed", 1: "good"}
            assert host.run("ls /etc/mine /var/mine").stdout == ""
            assert told(host, "upgrade --check")["image"] == sick
            host.check_output("systemctl start bootc-live-update.service")
            assert [row["number"] for row in deployments(host)] == [2, 1]
            (directory / "new.tar").write_bytes(NEW)
            new = publish(directory / "new.tar")
            host.check_output("systemctl start bootc-live-update.service")
            assert [row["number"] for row in deployments(host)] == [3, 2, 1]
            host.check_output("echo mine >/etc/mine && echo mine >/var/mine")
            goes_on(host, 3)
            assert told(host, "status")["image"]["manifest_digest"] == new
            assert host.run("ls /etc/mine /var/mine").stdout == ""
            host.check_output("systemctl start bootc-live-health.service")
            assert health(host) == {3: "good", 2: "failed", 1: "good"}
        assert names(disk) == ["3-3", "1-1", "2-2+0-3"]


def kiosk_archive(machine: Path, directory: Path) -> Path:
    """Make the image of a machine with the units for health and updates, and one that has to be up."""
    units = Path(shutil.copytree(REPO / "systemd", directory / "kiosk/usr/lib/systemd/system"))
    (units / "kiosk.service").write_text(KIOSK)
    return build(directory / "kiosk.oci", machine, directory / "kiosk")


@pytest.mark.long
def test_judge_of_systemd(vendor: Vendor) -> None:
    """Without ours, systemd-bless-boot.service calls a deployment good, if systemd-boot counted its start."""
    with tempfile.TemporaryDirectory(dir=vendor.directory) as name:
        judge = Path(name) / "judge.tar"
        subprocess.run(
            [VM / "enter", "boot", "tar", "--create", "--file", judge, "--directory", "/", *BLESS],
            check=True,
        )
        own = build(Path(name) / "own.oci", vendor.archive, judge)
        without = f"systemd.mask={JUDGE}"
        disk = install(own, Path(name) / "disk", Kind.QEMU, "systemd-boot", "--karg", without)
        new = vendor.publish(judge.read_bytes(), NEW)
        with disk.running() as (_, host):
            assert told(host, f"switch {vendor.source} --unsecure")["deployment"] == 2
        # It counts.
        assert names(disk) == ["2-2+3", "1-1"]
        with disk.running() as (ready, host):
            assert image(ready) == new
            # It may be on its way.
            host.check_output("systemctl start systemd-bless-boot.service")
            assert host.check_output(f"systemctl show --property=LoadState {JUDGE}") == "LoadState=masked"
            assert health(host) == {2: "good", 1: "good"}
            assert told(host, "rollback")["deployment"] == 1
        assert names(disk) == ["3-1", "2-2"]
