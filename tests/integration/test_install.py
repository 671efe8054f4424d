"""What `install` makes of its options, as the programs that use it see it: nothing is booted."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Final

import pytest

from bootc_live.landing.disk.boot_partition.firmware import add_firmware_entry
from tests.lib.booted import booted
from tests.lib.disk_fixtures import empty as one
from tests.lib.disk_machine import Machine, Next, boots_next, disk_image, taken_for_booted
from tests.lib.disks import loop, mountable, mounted, probed, run
from tests.lib.forked_program import ForkedProgram
from tests.lib.needs import needs
from tests.lib.oci_writer import write_archive
from tests.lib.partitions import LARGE, disk_of, kernel_partitions
from tests.lib.program import SECONDS, Program
from tests.lib.tar_writer import directory, file, layer
from tests.lib.tree_list import tree_list

__all__ = ["one"]

ENTRY: Final = re.compile(r"^Boot([0-9A-F]{4})[* ] (.*)\tHD\([0-9]+,GPT,([0-9a-f-]{36}),", re.MULTILINE)
FSTAB_GENERATOR: Final = "/usr/lib/systemd/system-generators/systemd-fstab-generator"


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


@pytest.mark.parametrize("bootloader", [pytest.param("systemd-boot", marks=pytest.mark.long), "grub"])
def test_kernels_in_a_partition_of_their_own(bootloader: str, program: ForkedProgram, tmp_path: Path) -> None:
    """The specification's XBOOTLDR: firmware reads the boot loader of one partition, and that the other one."""
    source, disk = (
        write_archive(tmp_path / "image.oci", disk_image(1, layer(*map(directory, ("boot/", "efi/"))))),
        "disk",
    )
    argv: list[str | Path] = [
        "install",
        "to-disk",
        tmp_path / disk,
        "--size",
        "1G",
        "--xbootldr",
        "200M",
        "--source",
        source,
    ]
    program.run(*argv, "--bootloader", bootloader).good()
    rows = json.loads(run("sfdisk", "-J", tmp_path / disk))["partitiontable"]["partitions"]
    assert [row["name"] for row in rows] == ["ESP", "XBOOTLDR", "root"]
    assert rows[1]["type"].lower() == "bc13c2ff-59e6-4262-a352-b275fd6f7172"
    assert rows[1]["size"] * 512 == 200 * 2**20
    esp, boot = tmp_path / "esp", tmp_path / "boot"
    for row, where in zip(rows, (esp, boot), strict=False):
        where.mkdir()
        run("mcopy", "-s", "-i", f"{tmp_path / disk}@@{row['start'] * 512}", "::*", where)
    assert (esp / "EFI/BOOT/BOOTX64.EFI").exists()
    assert not list(boot.rglob("*.[eE][fF][iI]"))
    if bootloader == "grub":
        lead = esp / "EFI/debian/grub.cfg"
        run("grub-script-check", lead)
        serial = run("blkid", "-p", "-o", "value", "-s", "UUID", "-O", str(rows[1]["start"] * 512), tmp_path / disk)
        assert f"--fs-uuid --set=root {serial}\n" in lead.read_text()
    with (
        loop(tmp_path / disk, "--offset", str(rows[2]["start"] * 512)) as device,
        mounted(device, tmp_path / "root") as at,
    ):
        assert boots_next(at, boot) == Next(1, 1)
        table = (at / "bootc-live/deployments/1/etc/fstab").read_text()
        for row, place in zip(rows, ("/efi", "/boot"), strict=False):
            assert f"\nPARTUUID={row['uuid'].lower()} {place} vfat " in table
        write_archive(source, disk_image(2))
        program.run("upgrade", "--disk", at, "--boot", boot).good()
        assert boots_next(at, boot) == Next(2, 2)


def test_two_at_once(one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    """The second one waits, and does not spoil what the first one has made."""
    one.offer(disk_image(1))
    one.store.mkdir(mode=0o700)
    log = tmp_path / "log"
    held = os.open(one.store, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with Program(program.zipapp).started(*one.install, log=log) as second:
            while b"waiting for another program" not in log.read_bytes():
                assert second.poll() is None, log.read_text()
                time.sleep(0.01)
            (one.store / "machine.json").write_text("{}")
            (one.deployments / "1").mkdir()
            before = tree_list(one.disk), tree_list(one.boot)
            fcntl.flock(held, fcntl.LOCK_UN)
            assert second.wait(SECONDS) == 1
    finally:
        os.close(held)
    assert "has an installation" in log.read_text()
    assert (tree_list(one.disk), tree_list(one.boot)) == before


def test_partitions_of_boot_loaders_are_looked_at(one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    """Firmware would find nothing, or the boot loader would not."""
    types = ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "bc13c2ff-59e6-4262-a352-b275fd6f7172")
    one.offer(disk_image(1))
    with ExitStack() as stack:
        places = {}
        for disk in ("a", "b"):
            with (tmp_path / disk).open("wb") as made:
                made.truncate(64 * 2**20)
            lines = "".join(f"size=20MiB, type={kind}\n" for kind in types)
            subprocess.run(["sfdisk", "--quiet", tmp_path / disk], input=f"label: gpt\n{lines}", text=True, check=True)
            device = stack.enter_context(loop(tmp_path / disk))
            stack.enter_context(kernel_partitions(device))
            for number, name in enumerate(("esp", "boot"), 1):
                run("mkfs.ext4", "-q", f"{device}p{number}")
                places[f"{name}-{disk}"] = stack.enter_context(
                    mounted(f"{device}p{number}", tmp_path / f"{name}-{disk}")
                )
        start: list[str | Path] = ["install", "to-filesystem", one.disk, "--source", one.source]
        for boot, esp, told in (
            ("boot-a", None, "from which firmware starts nothing"),
            ("boot-a", "esp-b", "are on two disks"),
            ("esp-a", "boot-a", "is not the mount point of an XBOOTLDR partition"),
            ("boot-a", "boot-b", "is not the mount point of an EFI system partition"),
        ):
            options: list[str | Path] = ["--boot", places[boot]]
            if esp is not None:
                options += ["--esp", places[esp]]
            program.run(*start, *options).error(told)
            assert not (one.store / "machine.json").exists()
        program.run(*start, "--boot", places["boot-a"], "--esp", places["esp-a"]).good()
        assert boots_next(one.disk, places["boot-a"]) == Next(1, 1)
        assert sorted(path.name for path in places["esp-a"].iterdir()) == ["EFI", "loader", "lost+found"]


@needs("mkfs.btrfs", "btrfs")
@pytest.mark.skipif(not mountable("btrfs"), reason="this kernel has no btrfs")
def test_subvolumes_of_btrfs(one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    """Systems in one file system; each finds its own again, whatever is mounted by default."""
    image = tmp_path / "btrfs"
    with image.open("wb") as made:
        made.truncate(256 * 2**20)
    run("mkfs.btrfs", "-q", image)
    with loop(image) as device, mounted(device, tmp_path / "top") as top:
        (top / "directory").mkdir()
        for name in ("first", "second", "a b"):
            run("btrfs", "subvolume", "create", top / name)
        run("btrfs", "subvolume", "set-default", top / "second")
        one.offer(disk_image(1))
        for name in ("first", "second", ""):
            with mounted(device, tmp_path / f"at-{name}", f"subvol=/{name}") as where:
                machine_of_it = replace(one, disk=where)
                if name != "first":
                    program.run(*machine_of_it.install).error("has the boot entries of another installation")
                    one.clear()
                program.run(*machine_of_it.install).good()
                assert boots_next(where, one.boot) == Next(1, 1)
                assert (top / name / "bootc-live/machine.json").exists()
                program.run("upgrade", "--check", *machine_of_it.options).good()
                assert machine_of_it.settings["subvolume"] == f"/{name}"
                (text,) = [path.read_text() for path in (one.boot / "loader/entries").iterdir()]
                assert f" bootc.disk.subvolume=/{name}" in text
                line = next(line for line in text.splitlines() if line.startswith("options "))
            # An initramfs and the running system mount it by what their kernel was told.
            line = line.removeprefix("options ")
            with booted(program, line, tmp_path / f"boot-{name}") as booted_one:
                assert (booted_one.root / "etc/number").read_text() == "1\n"
                with taken_for_booted(1, line, tmp_path):
                    program.run("pin", "1").good()
            assert (top / name / "bootc-live/deployments/1/pinned").exists()
        for options, told_of_it in (
            (["-o", "subvol=a b", device], "cannot be named on a kernel command line"),
            (["--bind", top / "directory"], "is the directory '/directory' of another file system"),
        ):
            where = tmp_path / "other"
            where.mkdir(exist_ok=True)
            run("mount", *options, where)
            try:
                program.run(*replace(one, disk=where).install).error(told_of_it)
                program.run(*replace(one, boot=where).install).error(str(where))
            finally:
                run("umount", where)


@needs("efibootmgr")
def test_boot_entry_of_the_firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one in its order, and the only one of ours whose partition is there; others stay."""
    variables = tmp_path / "variables"
    variables.mkdir()
    monkeypatch.setenv("EFIVARFS_PATH", f"{variables}/")
    others: list[tuple[str, str]] = []
    with (tmp_path / "disk").open("wb") as made:
        made.truncate(64 * 2**20)
    sizes = "size=20MiB, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b\n" * 2

    def listed() -> list[tuple[str, str]]:
        """The names of entries and the partitions that they start, in the order of the firmware."""
        said = run("efibootmgr", "--verbose")
        order = re.findall(r"^BootOrder: (.*)$", said, re.MULTILINE)[0].split(",")
        found = {number: (label, uuid_of_it) for number, label, uuid_of_it in ENTRY.findall(said)}
        return [found[number] for number in order if number in found]

    with loop(tmp_path / "disk") as device:
        for round_number in range(2):
            subprocess.run(["sfdisk", "--quiet", device], input=f"label: gpt\n{sizes}", text=True, check=True)
            with kernel_partitions(device):
                uuids = [
                    run("blkid", "-p", "-o", "value", "-s", "PART_ENTRY_UUID", f"{device}p{part}") for part in (1, 2)
                ]
                if not round_number:
                    other = ["--disk", device, "--part", "2", "--label", "other", "--loader", r"\a.efi"]
                    run("efibootmgr", "--quiet", "--create", *other)
                    others = [("other", uuids[1])]
                for _ in range(2):
                    assert add_firmware_entry(f"{device}p1", str(variables)) is None
                    assert listed() == [("bootc-live", uuids[0]), *others]
        assert add_firmware_entry(device, str(variables)) == f"{device} is no partition of a disk"
    assert add_firmware_entry(device, str(tmp_path / "none")) == "this machine was not started by UEFI firmware"


@needs("efibootmgr")
def test_firmware_is_told_while_the_disk_is_mounted(zipapp: Path, tmp_path: Path) -> None:
    """Afterwards, udev lets the kernel read the table again: for a moment, there are no partitions."""
    (tmp_path / "efi/efivars").mkdir(parents=True)
    real, instead, seen = Path(which("efibootmgr") or ""), tmp_path / "instead", tmp_path / "seen"
    shutil.copy2(real, tmp_path / "real")
    instead.write_text(
        f'#!/bin/sh\ngrep -c " /run/bootc-live/disk-root" /proc/mounts >>{seen}\nexec {tmp_path}/real "$@"\n'
    )
    instead.chmod(0o755)
    source = write_archive(tmp_path / "image.oci", disk_image(1))
    script = f'mount --bind {tmp_path} /sys/firmware; mount --bind {instead} {real}; exec "$@"'
    program = Program(zipapp, before=["unshare", "--mount", "sh", "-ec", script, "sh"])
    with disk_of(tmp_path / "disk", size=LARGE) as device:
        argv: list[str | Path] = ["install", "to-disk", device, "--source", source, "--nvram"]
        said = program.run(*argv).good().stderr
        assert "firmware starts it first" in said
        listed = run("env", f"EFIVARFS_PATH={tmp_path}/efi/efivars/", "efibootmgr")
    assert "bootc-live" in listed
    assert set(seen.read_text().split()) == {"1"}


def test_firmware_has_no_part_in_a_disk_in_a_file(program: ForkedProgram, tmp_path: Path) -> None:
    source = write_archive(tmp_path / "image.oci", disk_image(1))
    argv: list[str | Path] = ["install", "to-disk", tmp_path / "disk", "--size", "300M", "--source", source]
    said = program.run(*argv, "--nvram").good().stderr
    assert "may start something else: a file is no disk of this machine" in said
    said = program.run(*argv, "--wipe").good().stderr
    assert "may start something else" not in said
