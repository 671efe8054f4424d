"""Machines on a disk: installed, booted, upgraded, rolled back; what they do about changed files and broken images."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.lib.tar_writer import file, layer
from tests.vm.builder import in_builder
from tests.vm.inside import mounts
from tests.vm.installed import (
    BOOT_SECONDS,
    VICTIMS,
    install,
    install_for_secure_boot,
    live_guest,
    object_of,
    read_disk,
)
from tests.vm.kinds import Kind, own_kernel
from tests.vm.machines import (
    BROKEN,
    NEW,
    Vendor,
    changes_are_kept,
    deployments,
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
from tests.vm.rows import FAILING
from vmkit.paths import ROOTS, VM
from vmkit.targets import ALL_MODULES, kernel_version

__all__ = ["vendor"]

NEWER = 77
GIB = 2**30


def replace_object(host: Host, path: str) -> None:
    """Put another file in the place of an object, as somebody with the disk in another machine could."""
    device = mounts(host)["/var"]["source"].partition("[")[0]
    host.check_output(
        f"mount {device} /mnt && cd /mnt && size=$(stat -c %s .{path}) && rm .{path} && "
        f"head -c $size /dev/urandom >.{path} && chmod 444 .{path} && cd / && umount /mnt"
    )


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
            # The kernel of the installation had no fs-verity.
            assert "bootc.disk.verity=0" in host.check_output("cat /proc/cmdline")
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
@pytest.mark.parametrize(("kind", "filesystem"), [(own_kernel(), "ext4"), (Kind.QEMU, "btrfs")])
def test_live_boot_installs_itself(kind: Kind, filesystem: str, vendor: Vendor) -> None:
    """It finds the empty disk, installs what it runs there, and restarts; that is protected if its kernel can.

    Firmware starts that by the entry that the installation has made.
    """
    with tempfile.TemporaryDirectory(dir=vendor.directory) as name:
        place, variables = Path(name) / "disk", Path(name) / "variables"
        with place.open("wb") as made:
            made.truncate(3 * GIB)
        more = [NEW] if filesystem == "ext4" else [NEW, initramfs_for(filesystem, Path(name) / "initrd")]
        digest = vendor.publish(*more)
        cmdline = (
            f"{FAILING} root=bootc-live:{vendor.source} bootc.registry.unsecure bootc.install=smallest "
            f"bootc.install.filesystem={filesystem} bootc.install.karg=console=ttyS0"
        )
        with live_guest(kind, cmdline, place, variables) as guest:
            guest.wait_exit(BOOT_SECONDS)
            said = guest.console()
        assert "deployment 1 boots next" in said
        assert ("files on the disk are NOT checked" in said) == (kind is Kind.UML)
        disk = replace(read_disk(place, kind, "systemd-boot"), kept=variables)
        assert (names(disk), disk.filesystem) == (["1-1"], filesystem)
        with disk.running() as (ready, host):
            assert image(ready) == digest
            assert ("verity=require" in mounts(host)["/"]["options"]) == disk.verity
            assert without_bytes(told(host, "upgrade")) == {"image": digest, "newer": False, "deployment": None}
            if kind is Kind.UML:
                return
            assert started_by_firmware(host) == "bootc-live"
            host.check_output("echo mine >/etc/mine && echo kept >/var/lib/mine")
            newer = vendor.publish(*more, layer(file("usr/share/newer", "newer\n")))
            assert told(host, "upgrade")["deployment"] == 2
        with disk.running() as (ready, host):
            assert image(ready) == newer
            assert host.check_output("cat /usr/share/newer /etc/mine /var/lib/mine") == "newer\nmine\nkept"
            rolled_back(host, left=2)
        assert names(disk) == ["3-1", "2-2"]
        with disk.running() as (ready, host):
            assert image(ready) == digest


def initramfs_for(filesystem: str, scratch: Path) -> bytes:
    """A layer with the module of a file system, and an initramfs that has it, too: the tests' image is small."""
    kernel = kernel_version()
    modules = ROOTS / "live/usr/lib/modules" / kernel
    made = ("systemd", ALL_MODULES, scratch, kernel, modules)
    in_builder(VM / "initrd/make", *made, "--add-drivers", filesystem)
    (module,) = (modules / "kernel/fs" / filesystem).glob(f"{filesystem}.ko*")
    below = f"usr/lib/modules/{kernel}"
    return layer(
        file(f"{below}/initramfs.img", scratch.read_bytes(), mode=0o600),
        file(f"{below}/{module.relative_to(modules)}", module.read_bytes()),
    )


def started_by_firmware(host: Host) -> str:
    """The name of the entry of the firmware that started the machine."""
    said = host.check_output("efibootmgr")
    (number,) = re.findall(r"^BootCurrent: (.*)$", said, re.MULTILINE)
    (label,) = re.findall(rf"^Boot{number}\* ([^\t]*)", said, re.MULTILINE)
    return str(label)
