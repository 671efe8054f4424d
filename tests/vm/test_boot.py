"""Guests that boot, and what they find themselves in."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from testinfra.host import Host

from tests.vm.conftest import Stage
from tests.vm.inside import connect, mounts, options, power_off, tree, writable
from tests.vm.kinds import Kind, boots, obstacle
from tests.vm.places import LOGIN
from tests.vm.rows import BOOTS, Row
from vmkit.base import BaseGuest, Ready

BOOT_SECONDS = 900
OFF_SECONDS = 180
MIB = 2**20


@dataclass(frozen=True)
class Booted:
    """A guest that reached its default target."""

    row: Row
    guest: BaseGuest
    ready: Ready
    host: Host
    kind: Kind

    @property
    def own_kernel(self) -> bool:
        """Whether kernel and memory are the guest's own, not those of this machine."""
        return self.kind is not Kind.NAMESPACES

    @property
    def manager(self) -> bool:
        """Whether NetworkManager brings up the network of the initramfs."""
        return self.row.initrds[0] == "initrd-container.img"

    def asks(self, word: str) -> bool:
        """Whether the row's kernel arguments have a word."""
        return word in self.row.kargs.split()


@pytest.fixture(scope="module", params=list(boots(BOOTS)))
def booted(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Booted]:
    """One guest a row; all tests of the row use it."""
    row: Row
    kind: Kind
    row, kind = request.param
    with stage.guest(row, kind) as guest:
        ready = guest.wait_ready(BOOT_SECONDS)
        print(f"{row}: ready after {ready.seconds:.0f} s in {kind}, phases {(ready.receipt or {}).get('phases')}")
        yield Booted(row, guest, ready, connect(guest, lasting=True), kind)


def test_reaches_its_default_target_with_nothing_failed(booted: Booted) -> None:
    assert booted.ready.target == "multi-user.target"
    state = booted.host.run("systemctl is-system-running --wait").stdout.strip()
    listed = booted.host.check_output("systemctl --failed --plain --no-legend").splitlines()
    unexpected = sorted({line.split()[0] for line in listed} - booted.row.failed)
    told = (booted.host.run("journalctl --boot --output short-monotonic --unit %s", unit).stdout for unit in unexpected)
    assert not unexpected, "\n".join(told)
    assert state == "running" or booted.row.failed, booted.host.run("systemctl list-jobs; journalctl -b -p 4").stdout


def test_root_is_what_was_asked_for(booted: Booted) -> None:
    root = mounts(booted.host)["/"]
    on_top = "tmpfs" if booted.row.layout == "tree" else "erofs"
    assert root["fstype"] == ("overlay" if booted.asks("rw") else on_top)
    assert ("rw" in options(booted.host, "/")) == booted.asks("rw")
    verity = booted.asks("bootc.live.verity")
    assert root["source"].startswith("/dev/dm-") == verity
    assert ((booted.ready.receipt or {})["root"]["root_hash"] is not None) == verity
    assert not {"nosuid", "nodev", "noexec"} & options(booted.host, "/")
    assert writable(booted.host, "/usr") == booted.asks("rw")


def test_etc_is_an_overlay_unless_asked_otherwise(booted: Booted) -> None:
    if booted.asks("rw"):
        assert "/etc" not in mounts(booted.host)
    elif booted.asks("bootc.live.etc.rw=0"):
        assert not writable(booted.host, "/etc")
        return
    else:
        assert mounts(booted.host)["/etc"]["fstype"] == "overlay"
    assert writable(booted.host, "/etc")


def test_var_is_a_file_system_of_its_own_unless_asked_otherwise(booted: Booted) -> None:
    if booted.asks("bootc.live.var.rw=0"):
        assert "/var" not in mounts(booted.host)
        assert not writable(booted.host, "/var/tmp")
        return
    on_zram = booted.asks("bootc.live.writable=zram")
    assert mounts(booted.host)["/var"]["fstype"] == ("ext4" if on_zram else "tmpfs")
    assert not {"nosuid", "nodev", "noexec"} & options(booted.host, "/var")
    assert writable(booted.host, "/var/lib")
    assert booted.host.file("/var/lib/dpkg/status").size > 0


def test_mount_table_is_sane(booted: Booted) -> None:
    table = mounts(booted.host)
    assert not [target for target in table if target.startswith(("/sysroot", "/run/bootc-live"))]
    devices = {mount["source"] for mount in table.values() if mount["source"].startswith(("/dev/loop", "/dev/dm-"))}
    wanted = booted.row.layout != "tree"
    # The one below an overlay is not in the table, and losetup lists those of other guests of the same kernel.
    assert len(devices) == (wanted and not booted.asks("rw"))
    if booted.own_kernel:
        assert len(booted.host.check_output("losetup --list --noheadings").splitlines()) == wanted
    # Each of them once: nothing is hidden below anything.
    targets = booted.host.check_output("findmnt --noheadings --list --output TARGET").split()
    for target in ("/", "/etc", "/var"):
        assert targets.count(target) <= 1


def test_setuid_and_capabilities_work(booted: Booted) -> None:
    assert booted.host.check_output("setpriv --reuid 65534 --clear-groups id-setuid -u") == "0"
    assert "cap_net_bind_service=ep" in booted.host.check_output("getcap /usr/local/bin/id-capable")


def test_receipt_tells_this_boot(booted: Booted, stage: Stage) -> None:
    receipt = booted.ready.receipt
    assert receipt is not None
    assert receipt["image"]["manifest_digest"] == stage.digests[booted.row.tag]
    asked = stage.fill(booted.row.kargs).split()[0].removeprefix("root=bootc-live:")
    used = stage.fill(booted.row.source) if booted.row.source else asked
    assert receipt["source"] == used
    fallbacks = re.findall(r"bootc\.live\.fallback=(\S+)", stage.fill(booted.row.kargs))
    wanted = [asked, *fallbacks]
    assert [(tried["source"], tried["used"]) for tried in receipt["sources"]] == [
        (source, source == used) for source in wanted[: wanted.index(used) + 1]
    ]
    assert receipt["policy"]["insecure"] == booted.asks("bootc.registry.unsecure")
    locked = "locked.cpio" in booted.row.initrds
    assert receipt["policy"]["signatures"] == ("verified" if locked else "not checked")
    assert receipt["policy"]["keys"] == (["/etc/bootc-live/keys/os.pub"] if locked else [])
    assert receipt["layout"] == booted.row.layout
    assert {"resolve", "estimate", "fetch", booted.row.layout, "mount"} <= set(receipt["phases"])
    assert 0 < receipt["bytes"]["fetched"] < receipt["bytes"]["unpacked"]
    assert (receipt["root"]["sha256"] is not None) == (booted.row.layout == "erofs")


def test_a_compression_that_the_kernel_lacks_is_replaced(booted: Booted) -> None:
    receipt = booted.ready.receipt or {}
    # User-mode Linux of Debian forky lacked it up to some version.
    lacks = booted.asks("bootc.live.compress=zstd") and receipt["root"]["compression"] != "zstd"
    told = [warning for warning in receipt["warnings"] if "layout erofs lz4 is used, instead of erofs zstd" in warning]
    assert len(told) == lacks
    assert not lacks or booted.kind is Kind.UML
    if lacks:
        assert (receipt["root"]["compression"], receipt["root"]["asked"]["compression"]) == ("lz4", "zstd")
        assert told[0] in booted.guest.console()


def test_peak_of_memory(booted: Booted) -> None:
    """What is kept as it is takes its size, what is compressed less; nothing takes a second copy."""
    if not booted.own_kernel:
        return
    receipt = booted.ready.receipt or {}
    unpacked, peak = receipt["bytes"]["unpacked"], receipt["peak_memory"]
    if "bootc.zram=" in booted.row.kargs:
        assert 0.4 * unpacked < peak < unpacked
    elif "bootc.live.compress=" in booted.row.kargs:
        assert 0.5 * unpacked < peak < 0.75 * unpacked + 96 * MIB
    else:
        assert unpacked <= peak < 1.25 * unpacked + 64 * MIB


def test_nothing_but_the_root_stays_in_ram(booted: Booted) -> None:
    """Neither the archive and blobs nor anything of the initramfs: files in RAM are the root and what can be seen."""
    if not booted.own_kernel:
        return
    receipt = booted.ready.receipt or {}
    root = 0 if "bootc.zram=" in booted.row.kargs else receipt["root"]["size"]
    visible = booted.host.check_output("df --local --output=fstype,used --block-size=1 | sort -u").splitlines()
    seen = sum(int(used) for kind, used in map(str.split, visible) if kind == "tmpfs")
    (shared,) = re.findall(r"^Shmem: +([0-9]+) kB", booted.host.file("/proc/meminfo").content_string, re.MULTILINE)
    assert int(shared) * 1024 <= root + seen + 16 * MIB


def test_an_interface_that_is_not_plugged_in_does_not_hold_the_boot_up(booted: Booted) -> None:
    """What waits for the network waits for two minutes unless told otherwise."""
    if booted.row.unplugged:
        assert len(booted.host.check_output("ls /sys/class/net").split()) == 3
        # Of the initramfs, which writes to the same journal.
        waiting = "nm-wait-online-initrd" if booted.manager else "systemd-networkd-wait-online"
        told = booted.host.check_output(f"journalctl --boot --unit={waiting}.service")
        assert "Finished" in told
        assert "Timeout" not in told
        assert "Failed" not in told


def test_servers_did_what_they_are_for(booted: Booted, stage: Stage) -> None:
    for name, place in stage.places.items():
        if f"{{{name}}}" in booted.row.kargs:
            place.check()


def test_no_secret_is_told(booted: Booted) -> None:
    said = booted.guest.console() + booted.host.check_output("journalctl --boot --output cat")
    for secret in (LOGIN[1], base64.b64encode(":".join(LOGIN).encode()).decode(), "secret-token"):
        assert secret not in said
        assert secret not in json.dumps(booted.ready.receipt)


def test_clock_is_raised(booted: Booted, stage: Stage) -> None:
    """To the time when the initramfs was built, which is later than what systemd knows."""
    receipt = booted.ready.receipt or {}
    raised = [warning for warning in receipt["warnings"] if "the clock was 2001-" in warning]
    assert len(raised) == bool(booted.row.clock)
    assert int(booted.host.check_output("date +%s")) >= int((stage.directory / "built").read_text())


def test_image_without_modules_for_the_running_kernel_is_a_warning(booted: Booted) -> None:
    """Which every image is under User-mode Linux; a kernel of this machine may know no modules at all."""
    said = f"has no modules for the running kernel {booted.host.check_output('uname -r')}"
    receipt = booted.ready.receipt or {}
    told = [warning for warning in receipt["warnings"] if said in warning]
    assert len(told) == (said in booted.guest.console())
    if booted.own_kernel:
        assert len(told) == (booted.kind is Kind.UML or booted.row.kernel != "vmlinuz")


def test_console_shows_the_phases(booted: Booted) -> None:
    shown = "fetching and verifying layers" in booted.guest.console()
    assert shown != booted.asks("bootc.quiet=1")
    if booted.asks("bootc.registry.unsecure"):
        assert "is NOT checked, as requested" in booted.guest.console()


def test_tree_equals_what_umoci_makes(booted: Booted, umoci_tree: Callable[[str], list[str]]) -> None:
    """In every guest on the kernel of this machine: reading the whole tree takes a minute where that is emulated.

    A boot changes a root that can be written to.
    """
    if (booted.own_kernel and obstacle() is None) or booted.asks("rw"):
        return
    # What was mounted on top does not show through a bind mount that is not recursive.
    booted.host.check_output("mkdir /run/tree && mount --bind / /run/tree")
    seen = tree(booted.host, "/run/tree")
    booted.host.check_output("umount /run/tree")
    assert len(seen) > 3000
    assert without_var(seen) == without_var(umoci_tree(booted.row.tag))


def without_var(lines: list[str]) -> list[str]:
    """A listing without what is in /var: it is moved to a file system of its own, and the system has changed it."""
    return [line for line in lines if not line.startswith("var/")]


def test_shuts_down_without_a_failed_unmount(booted: Booted) -> None:
    before = len(booted.guest.console())
    power_off(booted.host)
    booted.guest.wait_exit(OFF_SECONDS)
    said = booted.guest.console()[before:]
    assert "reboot: Power down" in said or not booted.own_kernel
    for complaint in ("Failed unmounting", "Failed to unmount", "FAILED"):
        assert complaint not in said
    # systemd-shutdown knows the loop device of the root, but not the one below an overlay.
    assert ("Could not detach" in said) <= booted.asks("rw")
