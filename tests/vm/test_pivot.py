"""A running machine goes on in another image: over ssh, without a reboot, and nothing of the old system stays.

Most machines here were booted from RAM, in namespaces; one is installed on a disk. Their image has Python and
bootc-live, the one that follows has not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from testinfra.host import Host

from tests.vm.builder import in_builder, put_program
from tests.vm.conftest import Stage, pack
from tests.vm.inside import connect, mounts
from tests.vm.kinds import Kind, obstacle, own_kernel
from tests.vm.rows import FAILING
from vmkit.base import BaseGuest
from vmkit.guest import Guest
from vmkit.namespaces import NamespaceGuest
from vmkit.paths import OUT, ZIPAPP
from vmkit.start import Kernel
from vmkit.uml import UmlGuest

in_namespaces = pytest.mark.skipif(obstacle() is not None, reason=f"no guests in namespaces: {obstacle()}")

SECONDS = 240
UNSECURE = "--unsecure --yes"


@pytest.fixture(scope="module")
def image(stage: Stage) -> Path:
    """The image of a machine that can pivot."""
    return _shared_image(stage.directory)


@cache
def _shared_image(directory: Path) -> Path:
    """The same one for all modules."""
    return machine_image(Path(tempfile.mkdtemp(prefix="pivot-", dir=directory)))


def machine_image(directory: Path) -> Path:
    """Make the image of a machine that can pivot in a directory below the repository."""
    put_program(directory / "own")
    in_builder("vm/pivot/layer", directory / "python.tar")
    sources = [OUT / "live.oci", directory / "python.tar", directory / "own"]
    made = directory / "root.oci"
    argv = [sys.executable, str(ZIPAPP), "build", *map(str, sources), "--output", str(made)]
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=True)
    return made


@pytest.fixture
def guest(image: Path) -> Iterator[BaseGuest]:
    """A machine that was booted from RAM, running."""
    with booted_from_ram(image) as running:
        yield running


@contextmanager
def booted_from_ram(image: Path) -> Iterator[BaseGuest]:
    """Boot an image from RAM."""
    archive = image.with_name("machine.cpio")
    if not archive.exists():
        pack(image.parent, archive.name, "root.oci", image)
    start = Kernel(initrds=[OUT / "initrd.img", archive], append=f"root=bootc-live:/root.oci {FAILING}")
    with NamespaceGuest(start) as running:
        ready = running.wait_ready(SECONDS)
        assert (ready.target, ready.failed) == ("multi-user.target", 0)
        yield running


def source(stage: Stage, tag: str) -> str:
    return f"docker://{stage.http}/os/live:{tag}"


def arrive(guest: BaseGuest, file: str, up: Callable[[Host], bool] | None = None, seconds: float = SECONDS) -> Host:
    """The machine as soon as it answers from a root that has a file, and is up: by default, what systemd says."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            host = connect(guest)
            if host.run_test("test -e %s", file).rc == 0 and (up or running)(host):
                return connect(guest, lasting=True)
        except RuntimeError:
            # It has just let go of the connection.
            pass
        assert time.monotonic() < deadline, guest.console()[-3000:]
        time.sleep(0.2)


def booted(_: Host) -> bool:
    """For a root without systemd."""
    return True


def running(host: Host) -> bool:
    return host.run("systemctl is-system-running").stdout.strip() in ("running", "degraded")


def image_of_root(host: Host) -> str:
    """The number of the loop device's medium below a root that is not writable, which no other one ever has.

    Names of devices and numbers of files are given again, to other guests, too.
    """
    return str(host.check_output("cat /sys/class/block/$(basename $(findmnt -no SOURCE /))/diskseq"))


def held(host: Host, image: str) -> bool:
    """Whether a loop device still has a medium."""
    script = "cd /sys/class/block; for one in loop*; do test ! -e $one/loop || cat $one/diskseq; done"
    return image in host.check_output(script).split()


@in_namespaces
def test_pivot_over_ssh(guest: BaseGuest, stage: Stage) -> None:
    host = connect(guest)
    host.check_output("echo before >/etc/before")
    before = {command: host.check_output(command) for command in STAYS}
    before_it = image_of_root(host)
    assert held(host, before_it)
    told = host.run(f"bootc-live pivot {source(stage, 'foreign')} {UNSECURE}")
    assert told.rc == 0, told.stderr
    after = arrive(guest, "/etc/foreign")
    assert host.run("systemctl is-system-running").stdout.strip() == "running"
    assert not after.file("/etc/before").exists
    assert {command: after.check_output(command) for command in STAYS} == before
    assert "--switched-root" in after.check_output("tr '\\0' ' ' </proc/1/cmdline")
    # The image that the machine was booted from is no longer held by anybody.
    assert not held(after, before_it)
    table = mounts(after)
    assert {"/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/run"} <= set(table)
    assert not [target for target in table if "oldroot" in target or "nextroot" in target]
    receipt = json.loads(after.check_output("cat /run/bootc-live/receipt.json"))
    assert receipt["landing"]["way"] == "soft-reboot"
    assert receipt["image"]["manifest_digest"] == stage.digests["foreign"]
    assert receipt["policy"]["digests"] == "verified"
    # It does not know that image: no program of the old root runs.
    assert after.check_output("find /proc/[0-9]*/exe -lname '*(deleted)' 2>/dev/null || true") == ""


STAYS = (
    "hostname",
    "uname -r",
    "cat /etc/machine-id",
    "ip -brief address show dev eth0",
    "ip route show default | sed 's/ metric.*//'",
    "cat /run/ssh-host/ed25519_key.pub",
)


@in_namespaces
@pytest.mark.long
def test_old_root_is_shown_where_that_is_asked_for(guest: BaseGuest, stage: Stage) -> None:
    host = connect(guest)
    host.check_output("echo before >/etc/before && mkdir /root/own && echo last >/root/own/last")
    before_it = image_of_root(host)
    assert held(host, before_it)
    told = host.run(f"bootc-live pivot {source(stage, 'foreign')} /root/own {UNSECURE} --keep-old-root")
    assert told.rc == 0, told.stderr
    after = arrive(guest, "/etc/foreign")
    assert after.check_output("cat /last /mnt/oldroot/etc/before") == "last\nbefore"
    assert after.file("/mnt/oldroot/usr/local/bin/bootc-live").exists
    assert held(after, before_it)


def installed(kind: Kind, image: Path, disk: Path, *cache: Path) -> BaseGuest:
    """A machine on a disk, prepared for a pivot if it has a cache."""
    in_builder("tests/vm/make-installed", image, disk, *cache)
    if kind is Kind.UML:
        # Its modules are in the initramfs only.
        drivers = " ".join(f"rd.driver.pre={name}" for name in ("loop", "erofs", "overlay"))
        return UmlGuest(Kernel(initrds=[OUT / "initrd.img"], append=f"root=/dev/ubda rw {drivers}"), kept=[disk])
    start = Kernel(initrds=[OUT / "initrd.img"], append="root=LABEL=ROOT rw")
    return Guest(start, extra=["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"])


def partition_anew(host: Host, disk: str) -> None:
    """Write a table with one partition over a disk; the kernel reads it only if nobody has the disk open."""
    # One partition from sector 2048 on, in a DOS table.
    entry = "\\0\\0\\0\\0\\203\\0\\0\\0\\0\\010\\0\\0\\0\\020\\0\\0"
    host.check_output(f"dd if=/dev/zero of={disk} bs=512 count=4 && printf '{entry}' | dd of={disk} bs=1 seek=446")
    host.check_output(f"printf '\\125\\252' | dd of={disk} bs=1 seek=510 && blockdev --rereadpt {disk}")
    assert "part" in host.check_output(f"lsblk --noheadings --output TYPE {disk}")


def test_disk_is_released(image: Path, stage: Stage) -> None:
    """Nothing holds the disk of the old root, and nothing has to be unmounted."""
    with installed(own_kernel(), image, image.with_name("released-disk")) as machine:
        machine.wait_ready(SECONDS)
        host = connect(machine)
        disk = host.check_output("findmnt --noheadings --output SOURCE /")
        both = host.run(f"bootc-live pivot {source(stage, 'foreign')} {UNSECURE} --release-old-root --keep-old-root")
        assert (both.rc, "not allowed with argument" in both.stderr) == (2, True)
        told = host.run(f"bootc-live pivot {source(stage, 'foreign')} {UNSECURE} --release-old-root")
        assert told.rc == 0, told.stderr
        host = arrive(machine, "/etc/foreign")
        assert host.run(f"findmnt --source {disk}").rc != 0
        partition_anew(host, disk)


@pytest.mark.parametrize("kind", [own_kernel(), pytest.param(Kind.QEMU, marks=pytest.mark.long, id="in QEMU")])
def test_installed_machine(kind: Kind, image: Path, stage: Stage) -> None:
    """It pivots as a service, shows its disk, and lets it go; the disk is partitioned anew, and nobody confirms."""
    with installed(kind, image, image.with_name("disk")) as machine:
        machine.wait_ready(SECONDS)
        host = connect(machine)
        disk = host.check_output("findmnt --noheadings --output SOURCE /")
        words = f"{source(stage, 'foreign')} {UNSECURE} --headless --keep-old-root --rollback-after 1h"
        told = host.run(f"bootc-live pivot {words}")
        assert told.rc == 0, told.stderr
        assert "it goes on as bootc-live-pivot.service" in told.stderr
        host = arrive(machine, "/etc/foreign")
        assert host.check_output("findmnt --noheadings --output SOURCE --target /mnt/oldroot") == disk
        assert "LABEL=ROOT" in host.check_output("cat /mnt/oldroot/etc/fstab")
        assert "systemd stops all services" in host.check_output("cat /run/bootc-live-pivot.log")
        assert host.run(f"blockdev --rereadpt {disk}").rc != 0
        host.check_output("umount --recursive /mnt/oldroot")
        partition_anew(host, disk)
        timer = host.check_output("systemctl show --property=ActiveState,Result bootc-live-rollback.timer")
        assert set(timer.split()) == {"ActiveState=active", "Result=success"}
        host.check_output("touch /run/bootc-live/confirmed && systemctl start bootc-live-rollback.service")
        assert running(host)
        host.run("rm /run/bootc-live/confirmed; systemctl start --no-block bootc-live-rollback.service")
        machine.wait_exit(SECONDS)
        assert "Restarting system" in machine.console() or "reboot" in machine.console().lower()


@pytest.mark.long
def test_by_kexec(image: Path, stage: Stage) -> None:
    """The image's own kernel takes over from a system on a disk, with what was fetched before."""
    disk = image.with_name("kexec-disk")
    with installed(Kind.QEMU, image, disk) as machine:
        machine.wait_ready(SECONDS * 2)
        host = connect(machine)
        planned = host.run(f"bootc-live pivot {source(stage, 'changed')} --unsecure --via kexec --dry-run")
        assert "the image's own kernel starts" in planned.stderr
        more = "--headless --yes-i-have-a-console --cmdline 'bootc.registry.unsecure bootc.live.layout=tree'"
        told = host.run(f"bootc-live pivot {source(stage, 'changed')} {UNSECURE} --via kexec {more}")
        assert told.rc == 0, told.stderr
        # A whole boot, of a machine that is emulated.
        host = arrive(machine, "/etc/changed", seconds=SECONDS * 4)
        cmdline = host.check_output("cat /proc/cmdline")
        assert f"root=bootc-live:{source(stage, 'changed')}@{stage.digests['changed']}" in cmdline
        assert "console=ttyS0" in cmdline
        receipt = json.loads(host.check_output("cat /run/bootc-live/receipt.json"))
        assert receipt["layout"] == "tree"
        assert receipt["bytes"]["transferred"] == 0
        assert host.check_output("lsblk --noheadings --output MOUNTPOINTS /dev/vda").strip() == ""
