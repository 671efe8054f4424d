"""Machines on a disk: installed, booted, upgraded, rolled back; what they do about changed files and broken images."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.lib.fault_files import Files
from tests.lib.fault_server import fault_server
from tests.lib.registry import GUEST, Registry, registry
from tests.lib.tar_writer import file, layer
from tests.vm.images import stack
from tests.vm.inside import mounts
from tests.vm.installed import (
    BOOT_SECONDS,
    SUPERBLOCK,
    VICTIMS,
    InstalledDisk,
    build,
    install,
    install_for_secure_boot,
    live_guest,
    machine_archive,
    object_of,
    read_disk,
)
from tests.vm.kinds import Kind, own_kernel
from tests.vm.rows import FAILING
from vmkit.base import Ready
from vmkit.paths import REPO, ZIPAPP

NAME = "os/machine"
NEWER = 77
GIB = 2**30
NEW = layer(file("etc/new", "of the new image"), file("usr/share/new", "of the new image"))
BROKEN = layer(file("usr/lib/systemd/systemd", "#!/bin/sh\necho this init exits\n", mode=0o755))
# Its units are those of the repository; it works unless the image has a file.
KIOSK = (
    "[Unit]\nDescription=The kiosk\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=test ! -e /usr/share/sick\n"
)
SICK = layer(file("usr/share/sick", "it does not work"))


@dataclass(frozen=True)
class Vendor:
    """Where the machine's image comes from: a directory with its archive, and a registry with what follows."""

    directory: Path
    archive: Path
    registry: Registry
    base: str

    @property
    def source(self) -> str:
        """The image as guests call it."""
        return f"docker://{GUEST}:{self.registry.port}/{NAME}:latest"

    def publish(self, *layers: bytes) -> str:
        """Let the tag be the machine's image with more layers; return its digest."""
        return stack(self.registry, NAME, self.base, layers, "latest")


@pytest.fixture(scope="module")
def vendor() -> Iterator[Vendor]:
    # In the repository, which the builder root sees too.
    with tempfile.TemporaryDirectory(prefix="vm-tests-", dir=REPO / "build") as name:
        directory = Path(name)
        archive = machine_archive(directory)
        with registry(directory / "registry") as running:
            yield Vendor(
                directory,
                archive,
                running,
                running.push(f"oci-archive:{archive}", f"{NAME}:base", "--preserve-digests"),
            )


def told(host: Host, words: str, status: int = 0) -> dict[str, Any]:
    """What the program says as JSON."""
    done = host.run(f"bootc-live {words} --json")
    assert done.rc == status, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def without_bytes(found: dict[str, Any]) -> dict[str, Any]:
    """The same without what was fetched: manifests have various sizes."""
    return {name: value for name, value in found.items() if name != "fetched"}


def deployments(host: Host) -> list[dict[str, Any]]:
    """The deployments that the program lists, newest first."""
    rows: list[dict[str, Any]] = told(host, "status")["disk"]["deployments"]
    return rows


def health(host: Host) -> dict[int, str]:
    """What it thinks of them."""
    return {row["number"]: row["health"] for row in deployments(host)}


def names(disk: InstalledDisk) -> list[str]:
    return [str(name).removeprefix("bootc-live-") for name in disk.entries()]


def replace_object(host: Host, path: str) -> None:
    """Put another file in the place of an object, as somebody with the disk in another machine could."""
    device = mounts(host)["/var"]["source"].partition("[")[0]
    host.check_output(
        f"mount {device} /mnt && cd /mnt && size=$(stat -c %s .{path}) && rm .{path} && "
        f"head -c $size /dev/urandom >.{path} && chmod 444 .{path} && cd / && umount /mnt"
    )


def image(ready: Ready) -> str:
    return str((ready.receipt or {})["image"]["manifest_digest"])


MACHINES = [
    (own_kernel(), "systemd-boot"),
    *(pytest.param((Kind.QEMU, loader), marks=pytest.mark.long) for loader in ("systemd-boot", "uki", "grub")),
]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: f"{machine[0]}, {machine[1]}")
def test_life_of_a_machine(machine: tuple[Kind, str], vendor: Vendor) -> None:
    """It is upgraded; somebody changes what is on its disk; it is rolled back; the next image does not boot."""
    with tempfile.TemporaryDirectory(dir=vendor.directory) as name:
        kind, loader = machine
        file = Path(name) / "disk"
        if kind is Kind.QEMU:
            disk = install_for_secure_boot(vendor.archive, file, loader)
        else:
            disk = install(vendor.archive, file, kind, loader)
        assert names(disk) == ["1-1"]
        new = vendor.publish(NEW)
        with disk.running() as (ready, host):
            assert image(ready) == vendor.base
            switched(host, vendor.source, new)
            goes_on(host, 2)
            assert health(host) == {2: "2 tries left", 1: "good"}
            changes_are_kept(host)
            replace_object(host, object_of(VICTIMS["replaced"]))
        # The boot loader would have counted it.
        assert names(disk) == ["2-2+2-1", "1-1"]
        disk.flip(object_of(VICTIMS["flipped"]))

        # The upgrade replaces the wrong objects, and the running root has the old ones open to the end.
        with disk.running(clean=False) as (ready, host):
            assert image(ready) == new
            assert names(disk) == ["2-2+1-2", "1-1"]
            changes_are_kept(host)
            damage_is_found(host, verity=disk.verity)
            rolled_back(host, left=1)
            broken = vendor.publish(BROKEN)
            assert told(host, "upgrade --check", NEWER)["image"] == broken
            assert told(host, "upgrade")["deployment"] == 3
            told(host, "pin 2")
        assert names(disk) == ["4-3+3", "3-1", "2-2"]

        disk.count_to_last()
        assert "Kernel panic - not syncing: Attempted to kill init!" in disk.failed()
        assert names(disk) == ["3-1", "2-2", "4-3+0-3"]

        with disk.running() as (ready, host):
            assert image(ready) == vendor.base
            assert host.check_output("cat /etc/mine /var/lib/mine") == "mine\nkept"
            second = failure_is_remembered(host, broken)
            if machine == (Kind.QEMU, "systemd-boot"):
                goes_on(host, 2, "rollback --kexec")
            else:
                assert told(host, "rollback")["deployment"] == 2
        assert names(disk) == ["4-2", "3-1"]
        disk.flip(f"/bootc-live/images/{second}.erofs")
        problem = "cannot be read: Input/output error" if disk.verity else "it was changed, or is damaged"
        assert f"/images/{second}.erofs'" in (said := disk.failed())
        assert problem in said


def switched(host: Host, source: str, new: str) -> None:
    """Let the first deployment follow a registry, and change files before and after that."""
    # The kernel of the installation had no fs-verity.
    assert "bootc.disk.verity=0" in host.check_output("cat /proc/cmdline")
    assert health(host) == {1: "good"}
    host.check_output("echo mine >/etc/mine && echo edited >>/etc/issue && echo kept >/var/lib/mine")
    assert told(host, f"switch {source} --unsecure")["deployment"] == 2
    assert without_bytes(told(host, "upgrade")) == {"image": new, "newer": False, "deployment": None}
    host.check_output("echo late >/etc/late")


def goes_on(host: Host, number: int, words: str = "upgrade --soft-reboot") -> None:
    """Let the machine go on in what boots next, without its firmware; wait until that is up."""
    ask = "cat /proc/sys/kernel/random/boot_id && systemctl show --property=UserspaceTimestamp"
    before = host.check_output(ask)
    done = host.run(f"bootc-live {words}")
    assert done.rc == 0, done.stderr
    deadline, now = time.monotonic() + BOOT_SECONDS, ""
    while not now:
        assert time.monotonic() < deadline
        time.sleep(0.5)
        # Nobody answers in between.
        with suppress(RuntimeError):
            found = host.run(f"{ask} && systemctl is-system-running")
            now = found.stdout if found.rc == 0 and not found.stdout.startswith(before) else ""
    assert (now.split()[0] == before.split()[0]) == ("--soft-reboot" in words)
    assert [row["number"] for row in deployments(host) if row["booted"]] == [number]
    assert host.run("findmnt /run/nextroot").rc != 0


def changes_are_kept(host: Host) -> None:
    assert host.check_output("cat /etc/new /usr/share/new") == "of the new image" * 2
    assert host.check_output("cat /etc/mine /etc/late /var/lib/mine") == "mine\nlate\nkept"
    assert host.check_output("tail -n 1 /etc/issue") == "edited"


def damage_is_found(host: Host, *, verity: bool) -> None:
    """What the first deployment wrote is protected in the second one as well."""
    assert ("verity=require" in mounts(host)["/"]["options"]) == verity
    for victim in VICTIMS:
        assert ("Input/output error" in host.run(f"cat /usr/share/{victim}").stderr) == verity
    wrong = host.run("bootc-live verify")
    assert (wrong.rc, "2 files were changed" in wrong.stderr) == (1, True)
    if not verity:
        # tests/integration/test_fsck.py has that.
        return
    # The image is fetched again by its digest.
    for options, status, repaired in (("", 4, False), ("--repair", 0, True)):
        faults = told(host, f"fsck {options}", status)["faults"]
        assert [(2 in fault["deployments"], fault["repaired"]) for fault in faults] == [(True, repaired)] * 2
    host.check_output("bootc-live verify")


def rolled_back(host: Host, left: int) -> None:
    assert health(host) == {2: f"{left} tries left", 1: "good"}
    assert told(host, "health") == {"deployment": 2, "health": "good"}
    assert told(host, "rollback")["deployment"] == 1


def failure_is_remembered(host: Host, broken: str) -> str:
    """After its deployment is gone, too. Return the metadata of the second deployment."""
    assert health(host) == {3: "failed", 2: "good", 1: "good"}
    assert without_bytes(told(host, "upgrade")) == {"image": broken, "newer": False, "deployment": None}
    assert told(host, "prune --keep 0") == {"removed": [3]}
    assert told(host, "upgrade --check")["newer"] is False
    second, _ = deployments(host)
    assert (second["number"], second["pinned"]) == (2, True)
    return str(second["root"])


@pytest.mark.long
@pytest.mark.parametrize("kind", [own_kernel(), Kind.QEMU])
def test_live_boot_installs_itself(kind: Kind, vendor: Vendor) -> None:
    """It finds the empty disk, installs what it runs there, and restarts; that is protected if its kernel can."""
    with tempfile.TemporaryDirectory(dir=vendor.directory) as name:
        file = Path(name) / "disk"
        with file.open("wb") as made:
            made.truncate(3 * GIB)
        digest = vendor.publish(NEW)
        cmdline = f"{FAILING} root=bootc-live:{vendor.source} bootc.registry.unsecure bootc.install=smallest"
        with live_guest(kind, f"{cmdline} bootc.install.karg=console=ttyS0", file) as guest:
            guest.wait_exit(BOOT_SECONDS)
            said = guest.console()
        assert "deployment 1 boots next" in said
        disk = read_disk(file, kind, "systemd-boot")
        assert names(disk) == ["1-1"]
        with disk.running() as (ready, host):
            assert image(ready) == digest
            assert ("verity=require" in mounts(host)["/"]["options"]) == (kind is Kind.QEMU)
            assert without_bytes(told(host, "upgrade")) == {"image": digest, "newer": False, "deployment": None}


@pytest.mark.long
def test_self_updating_kiosk(vendor: Vendor) -> None:
    """It forgets all changes, follows a pointer, goes back by itself from an image that is sick, and takes the next."""
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
        options = ("--auto-update", "--success-unit", "kiosk.service", "--state", "volatile")
        disk = install(kiosk, directory / "disk", Kind.QEMU, "systemd-boot", *options)
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
        assert names(disk) == ["3-3+3", "1-1", "2-2+0-3"]

        with disk.running() as (ready, host):
            assert image(ready) == new
            host.check_output("systemctl start bootc-live-health.service")
            assert health(host) == {3: "good", 2: "failed", 1: "good"}
        assert names(disk) == ["3-3", "1-1", "2-2+0-3"]


def kiosk_archive(machine: Path, directory: Path) -> Path:
    """Make the image of a machine with the units for health and updates, and one that has to be up."""
    units = Path(shutil.copytree(REPO / "systemd", directory / "kiosk/usr/lib/systemd/system"))
    (units / "kiosk.service").write_text(KIOSK)
    return build(directory / "kiosk.oci", machine, directory / "kiosk")


@pytest.mark.long
def test_life_with_slots(vendor: Vendor) -> None:
    """It is upgraded and rolled back; without one block of the superblock, it does not start."""
    with tempfile.TemporaryDirectory(dir=vendor.directory) as name:
        disk = install(vendor.archive, Path(name) / "disk", Kind.QEMU, "systemd-boot", "--storage", "slots")
        new = vendor.publish(NEW)
        with disk.running() as (ready, host):
            assert image(ready) == vendor.base
            host.check_output("echo mine >/etc/mine && echo edited >>/etc/issue && echo kept >/var/lib/mine")
            assert told(host, f"switch {vendor.source} --unsecure")["deployment"] == 2
            host.check_output("echo late >/etc/late && bootc-live upgrade --finalize")
        with disk.running() as (ready, host):
            assert image(ready) == new
            root = mounts(host)["/"]
            assert (root["fstype"], root["source"].startswith("/dev/dm-")) == ("erofs", True)
            changes_are_kept(host)
            assert host.run("bootc-live verify").rc == 0
            rolled_back(host, left=2)
        assert names(disk) == ["3-1", "2-2"]
        with disk.running() as (ready, host):
            assert image(ready) == vendor.base
            assert host.check_output("cat /etc/mine /var/lib/mine") == "mine\nkept"
        disk.flip_at(disk.slots[0] + SUPERBLOCK)
        assert "can't read superblock on /dev/dm-" in disk.failed()
