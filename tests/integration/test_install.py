"""What `install` makes of its options, as the programs that use it see it: nothing is booted."""

from __future__ import annotations

import json
import stat
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from tests.lib.archive_servers import Stored, archive_server
from tests.lib.boot_images import INITRAMFS, VERSION, kernel_layer
from tests.lib.booted import booted
from tests.lib.disk_machine import Machine, Next, boots_next, disk_image, machine
from tests.lib.disks import loop, mountable, mounted, probed, run
from tests.lib.forked_program import ForkedProgram
from tests.lib.needs import needs
from tests.lib.oci_writer import Image, write_archive
from tests.lib.partitions import kernel_partitions
from tests.lib.tar_writer import directory, file, layer

EFI: Final = Path("/usr/lib/systemd/boot/efi")
# A program that Debian has signed, taken for a kernel.
SIGNED: Final = EFI / "systemd-bootx64.efi.signed"
UNSIGNED: Final = EFI / "systemd-bootx64.efi"
SHIM: Final = ("/usr/lib/shim/shimx64.efi.signed", "/usr/lib/shim/mmx64.efi.signed")
GRUB: Final = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
FSTAB_GENERATOR: Final = "/usr/lib/systemd/system-generators/systemd-fstab-generator"


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Machine]:
    """Empty file systems."""
    with machine(tmp_path) as made:
        yield made


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


@pytest.mark.parametrize("bootloader", ["systemd-boot", "grub"])
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
                assert settings(machine_of_it)["subvolume"] == f"/{name}"
                (text,) = [path.read_text() for path in (one.boot / "loader/entries").iterdir()]
                assert f" bootc.disk.subvolume=/{name}" in text
                line = next(line for line in text.splitlines() if line.startswith("options "))
            # An initramfs and the running system mount it by what their kernel was told.
            told = tmp_path / "cmdline"
            told.write_text(line.removeprefix("options "))
            with booted(program, told.read_text(), tmp_path / f"boot-{name}") as booted_one:
                assert (booted_one.root / "etc/number").read_text() == "1\n"
                run("mount", "--bind", told, "/proc/cmdline")
                try:
                    program.run("pin", "1").good()
                finally:
                    run("umount", "/proc/cmdline")
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


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[list[str]]:
    """Partitions: two for roots, one with a file system, and one for boot loaders."""
    with (tmp_path / "disk-of-slots").open("wb") as made:
        made.truncate(64 * 2**20)
    esp = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
    lines = f"label: gpt\nsize=12MiB\nsize=16MiB\nsize=12MiB\nsize=12MiB, type={esp}\n"
    subprocess.run(["sfdisk", "--quiet", tmp_path / "disk-of-slots"], input=lines, text=True, check=True)
    with loop(tmp_path / "disk-of-slots") as device, kernel_partitions(device):
        run("mkfs.ext4", "-q", f"{device}p3")
        yield [f"{device}p{number}" for number in (1, 2, 3, 4)]


def test_slots_that_are_there(one: Machine, slots: list[str], program: ForkedProgram) -> None:
    one.offer(disk_image(1))
    options = ["--storage", "slots", "--slot", slots[0], "--slot", slots[1]]
    program.run(*one.install, *options).good()
    uuids = [run("blkid", "-p", "-o", "value", "-s", "PART_ENTRY_UUID", slot) for slot in slots[:2]]
    assert settings(one)["slots"] == uuids
    for number, uuid_of_it in enumerate(uuids, 1):
        record = json.loads((one.deployments / f"{number}/deployment.json").read_text())
        assert record["slot"] == uuid_of_it
        assert probed(slots[number - 1])["ID_FS_TYPE"] == "erofs"
        program.run("verify", *one.options).good()
        program.run("health", *one.options).good()
        one.offer(disk_image(number + 1))
        program.run("upgrade", *one.options).good()
    # The first slot has been written again.
    assert sorted(path.name for path in one.deployments.iterdir() if path.name.isdigit()) == ["2", "3"]
    # It is a disk that is in use, by records at least; somebody may want to have it anyway.
    one.clear()
    program.run(*one.install, *options).error("is not empty; it has: erofs")
    program.run(*one.install, *options, "--wipe").good()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--storage slots", "needs two partitions for roots, and --slot names none"),
        ("--storage slots --slot {0}", "and --slot names 1"),
        ("--storage slots --slot {0} --slot {1} --slot {2}", "and --slot names 3"),
        ("--storage slots --slot {0} --slot {0}", "are the same partition"),
        ("--storage slots --slot {0} --slot {2}", "is not empty; it has: ext4"),
        ("--storage slots --slot {0} --slot {3} --wipe", "is a partition for boot loaders"),
        ("--storage slots --slot {0} --slot {disk} --wipe", "is no partition"),
        ("--storage slots --slot {0} --slot {source}", "is no block device"),
        ("--storage slots --slot {0} --slot /dev/none", "cannot be used: No such file"),
        ("--slot {0} --slot {1}", "--slot is of no use without slots"),
        ("--wipe", "--wipe is of no use without slots"),
    ],
)
def test_slots_are_refused(options: str, told: str, one: Machine, slots: list[str], program: ForkedProgram) -> None:
    one.offer(disk_image(1))
    words = options.format(*slots, disk=slots[0].rpartition("p")[0], source=one.source).split()
    program.run(*one.install, *words).error(told)
    assert not list(one.boot.glob("loader/*"))
    assert probed(slots[2])["ID_FS_TYPE"] == "ext4"


def test_slots_in_use_are_refused(one: Machine, slots: list[str], program: ForkedProgram, tmp_path: Path) -> None:
    one.offer(disk_image(1))
    with mounted(slots[2], tmp_path / "used"):
        options = ["--storage", "slots", "--slot", slots[0], "--slot", slots[2], "--wipe"]
        program.run(*one.install, *options).error("is in use: ", "is mounted at")


@pytest.mark.parametrize(
    ("kargs", "expected"),
    [
        ("", {"slots": [], "state": "full", "loader": "systemd-boot"}),
        ("storage=slots slot.size=8M state=etc bootloader=grub", {"state": "etc", "loader": "grub", "slots": ...}),
        ("xbootldr=100M filesystem=ext4 hostname=node1 karg=quiet", {"arguments": ["quiet"], "slots": []}),
    ],
)
def test_a_machine_installs_itself(
    kargs: str, expected: dict[str, object], program: ForkedProgram, tmp_path: Path
) -> None:
    """As its kernel command line says; a file takes the part of the disk."""
    archive, disk, receipt = tmp_path / "image.oci", tmp_path / "disk", tmp_path / "receipt.json"
    write_archive(archive, disk_image(1))
    with disk.open("wb") as made:
        made.truncate(700 * 2**20)
    with archive_server(Stored(archive.read_bytes())) as server:
        source = server.url()
        receipt.write_text(json.dumps({"source": source, "image": None}))
        words = [f"root=bootc-live:{source}", f"bootc.install={disk}"]
        words += [f"bootc.install.{word}" for word in kargs.split()]
        program.run("install", "from-cmdline", "--cmdline", " ".join(words), "--receipt", receipt).good()
    rows = json.loads(run("sfdisk", "-J", disk))["partitiontable"]["partitions"]
    names = ["ESP", *["XBOOTLDR"] * ("xbootldr" in kargs), *["slotA", "slotB"] * ("slots" in kargs), "root"]
    assert [row["name"] for row in rows] == names
    with loop(disk, "--offset", str(rows[-1]["start"] * 512)) as device, mounted(device, tmp_path / "root") as top:
        found = json.loads((top / "bootc-live/machine.json").read_text())
        etc = top / "bootc-live/deployments/1/etc"
        assert ("hostname" in kargs) == ((etc / "hostname").exists() and (etc / "hostname").read_text() == "node1\n")
    if "slots" in kargs:
        assert [row["size"] * 512 for row in rows if row["name"].startswith("slot")] == [8 * 2**20] * 2
        expected = {**expected, "slots": [row["uuid"].lower() for row in rows if row["name"].startswith("slot")]}
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("kargs", "told"),
    [
        ("bootc.install.bootloader=uki bootc.install.secureboot", "needs a key"),
        ("bootc.install.success.unit=kiosk", "is not the name of a unit"),
        ("bootc.install.hostname=a_b", "is not a host name"),
        ("bootc.install.slot.size=4G", "is of no use without slots"),
    ],
)
def test_arguments_of_a_machine_that_installs_itself(
    kargs: str, told: str, program: ForkedProgram, tmp_path: Path
) -> None:
    words = f"root=bootc-live:docker://registry.example/os:1 bootc.install={tmp_path / 'disk'} {kargs}"
    (tmp_path / "receipt.json").write_text("{}")
    program.run("install", "from-cmdline", "--cmdline", words, "--receipt", tmp_path / "receipt.json").error(told)


def members(*paths: str | Path) -> list[bytes]:
    """Files of this system for a layer."""
    names = [str(path).lstrip("/") for path in paths]
    above = sorted(
        {"/".join(name.split("/")[:depth]) + "/" for name in names for depth in range(1, name.count("/") + 1)}
    )
    return [*map(directory, above), *(file(name, Path(f"/{name}").read_bytes()) for name in names)]


def secure_image(number: int, *loaders: str | Path, kernel: Path = SIGNED) -> Image:
    """An image with programs of this system, and one of them for a kernel."""
    return disk_image(number, layer(*members(*loaders)), kernel_layer(kernel=kernel.read_bytes()))


def uki_image(number: int, uki: Path) -> Image:
    """An image that brings a unified kernel image."""
    folders = ("boot/", "boot/EFI/", "boot/EFI/Linux/")
    brought = layer(*map(directory, folders), file("boot/EFI/Linux/os.efi", uki.read_bytes()))
    return disk_image(number, layer(*members(UNSIGNED)), brought)


@dataclass(frozen=True)
class Keys:
    """A key and its certificate (PEM)."""

    key: Path
    certificate: Path

    @property
    def options(self) -> tuple[str | Path, ...]:
        """The options that name them."""
        return "--sb-key", self.key, "--sb-cert", self.certificate

    def signed(self, path: Path) -> bool:
        """Whether a program has its signature."""
        argv: list[str | Path] = ["sbverify", "--cert", self.certificate, path]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Keys, Keys]:
    """Those of the machine's owner, and of the image's vendor."""
    where = tmp_path_factory.mktemp("keys")
    made = []
    for name in ("own", "vendor"):
        pair = Keys(where / f"{name}.key", where / f"{name}.crt")
        argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
        run(*argv, "-keyout", pair.key, "-out", pair.certificate)
        made.append(pair)
    return made[0], made[1]


def signed_uki(vendor: Keys, where: Path, cmdline: str = "quiet of=vendor") -> Path:
    """A unified kernel image as a distribution makes it; nothing in it is this machine's."""
    initrd, made = where / "initrd", where / "os.efi"
    initrd.write_bytes(INITRAMFS)
    argv = ["ukify", "build", f"--linux={UNSIGNED}", f"--initrd={initrd}", f"--cmdline={cmdline}", f"--uname={VERSION}"]
    argv += ["--os-release=ID=vendor\nVERSION_ID=1\n", f"--secureboot-private-key={vendor.key}"]
    run(*argv, f"--secureboot-certificate={vendor.certificate}", f"--output={made}")
    return made


def cmdline_of(program: Path) -> str:
    """The section of a UEFI program that has kernel arguments."""
    found = json.loads(run("ukify", "inspect", program, "--json=short"))
    return str(found[".cmdline"]["text"])


def has_key(*tops: Path) -> bool:
    """Whether a private key is anywhere."""
    return any(b"PRIVATE KEY" in path.read_bytes() for top in tops for path in top.rglob("*") if path.is_file())


def settings(one: Machine) -> dict[str, object]:
    found = json.loads((one.store / "machine.json").read_text())
    assert isinstance(found, dict)
    return found


@needs("sbverify")
@pytest.mark.parametrize(("bootloader", "program_of_it"), [("systemd-boot", SIGNED), ("grub", Path(GRUB))])
def test_secure_boot_of_the_distribution(
    bootloader: str, program_of_it: Path, one: Machine, program: ForkedProgram
) -> None:
    """Firmware starts shim, and that the boot loader and the kernel, all of them as they were signed."""
    one.offer(secure_image(1, program_of_it, *SHIM))
    program.run(*one.install, "--secure-boot", "--bootloader", bootloader).good()
    (kernel,) = one.boot.glob("bootc-live/*/vmlinuz")
    folder = one.boot / "EFI/BOOT"
    for path, original in (
        (folder / "BOOTX64.EFI", Path(SHIM[0])),
        (folder / "grubx64.efi", program_of_it),
        (kernel, SIGNED),
    ):
        assert path.read_bytes() == original.read_bytes()
        assert "signature 1" in run("sbverify", "--list", path)
    before = one.entries
    one.offer(secure_image(2, program_of_it, *SHIM, kernel=UNSIGNED))
    told = f"the kernel of '{one.source}' is not signed for Secure Boot"
    program.run("upgrade", *one.options).error(told)
    assert one.entries == before
    one.offer(secure_image(3, program_of_it, *SHIM))
    program.run("upgrade", *one.options).good()
    assert len(one.entries) == len(before) + 1


@pytest.mark.parametrize(
    ("loaders", "kernel", "options", "told"),
    [
        ((SIGNED,), SIGNED, "", "the image has no signed systemd-boot with shim"),
        ((*SHIM,), SIGNED, "", "the image has no signed systemd-boot with shim"),
        ((GRUB,), SIGNED, "--bootloader grub", "the image has no signed GRUB for UEFI with shim"),
        ((SIGNED, *SHIM), UNSIGNED, "", "is not signed for Secure Boot"),
        ((SIGNED, *SHIM), SIGNED, "--bootloader uki", "Secure Boot with unified kernel images needs a key"),
        ((SIGNED, *SHIM), SIGNED, "--sb-key {key} --sb-cert {cert}", "with an own key needs unified kernel images"),
        ((SIGNED, *SHIM), SIGNED, "--sb-enroll", "--sb-enroll is of no use without a key"),
        ((SIGNED, *SHIM), SIGNED, "--keep-key", "--keep-key is of no use without a key"),
        (
            (SIGNED,),
            SIGNED,
            "--bootloader uki --sb-key {key} --sb-cert {cert} --sb-enroll --sb-db-cert {key}",
            "is no certificate",
        ),
    ],
)
def test_secure_boot_is_refused(
    loaders: tuple[str | Path, ...],
    kernel: Path,
    options: str,
    told: str,
    one: Machine,
    keys: tuple[Keys, Keys],
    program: ForkedProgram,
) -> None:
    one.offer(secure_image(1, *loaders, kernel=kernel))
    words = options.format(key=keys[0].key, cert=keys[0].certificate).split()
    program.run(*one.install, "--secure-boot", *words).error(told)
    assert not list(one.boot.rglob("*.[eE][fF][iI]"))
    assert not (one.store / "machine.json").exists()


@needs("sbverify", "ukify")
def test_signed_uki_of_the_image(one: Machine, keys: tuple[Keys, Keys], program: ForkedProgram, tmp_path: Path) -> None:
    """It stays as it is; where its root is, an addon says that the owner has signed."""
    own, vendor = keys
    uki = signed_uki(vendor, tmp_path)
    one.offer(uki_image(1, uki))
    options = ["--bootloader", "uki", "--secure-boot", *own.options, "--karg", "mine=1"]
    program.run(*one.install, *options).good()
    (entry,) = (one.boot / "loader/entries").glob("*.conf")
    lines = dict(line.split(" ", 1) for line in entry.read_text().splitlines())
    copied = one.boot / lines["efi"][1:]
    assert copied.read_bytes() == uki.read_bytes()
    assert (vendor.signed(copied), own.signed(copied)) == (True, False)
    (addon,) = copied.parent.glob(f"{copied.name}.extra.d/*.addon.efi")
    assert own.signed(addon)
    assert own.signed(one.boot / "EFI/BOOT/BOOTX64.EFI")
    record = json.loads((one.deployments / "1/deployment.json").read_text())
    said = cmdline_of(addon)
    assert f"root=bootc-live:deployment:{settings(one)['root']}:1@{record['root']}" in said
    assert " mine=1 " in said
    status = json.loads(program.run("status", "--json", *one.options).good().stdout)["disk"]
    assert [row["health"] for row in status["deployments"]] == ["good"]
    program.run("verify", *one.options).good()
    # The key did not stay, so nothing can be signed here.
    assert not has_key(one.disk, one.boot)
    one.offer(uki_image(2, uki))
    program.run("upgrade", *one.options).error("the key did not stay on it")
    assert one.entries == ["bootc-live-1-1"]


@needs("sbverify", "ukify")
def test_kept_key_signs_upgrades(one: Machine, keys: tuple[Keys, Keys], program: ForkedProgram, tmp_path: Path) -> None:
    """From an image without to one with a unified kernel image, and back: all are in one menu."""
    own, vendor = keys
    one.offer(secure_image(1, SIGNED))
    program.run(*one.install, "--bootloader", "uki", "--secure-boot", *own.options, "--keep-key").good()
    kept = one.store / "keys"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert (kept / "key.pem").read_bytes() == own.key.read_bytes()
    assert stat.S_IMODE((kept / "key.pem").stat().st_mode) == 0o600
    assert not has_key(one.boot)
    uki = signed_uki(vendor, tmp_path)
    one.offer(uki_image(2, uki))
    program.run("upgrade", *one.options).good()
    one.offer(secure_image(3, SIGNED))
    program.run("upgrade", *one.options).good()
    made = sorted((one.boot / "EFI/Linux").iterdir())
    assert [path.name for path in made] == ["bootc-live-1-1.efi", "bootc-live-3-3+3.efi"]
    addons = [path for path in one.boot.rglob("*.addon.efi") if path.is_file()]
    assert all(own.signed(path) for path in (*made, *addons))
    assert len(addons) == 1
    program.run("rollback", "--to", "2", *one.options).good()
    # What systemd's tool would start is what is said here.
    environment = {"PATH": "/usr/bin", "SYSTEMD_RELAX_ESP_CHECKS": "1"}
    argv = ["bootctl", "list", "--json=short", f"--esp-path={one.boot}"]
    listed = json.loads(subprocess.run(argv, env=environment, capture_output=True, check=True).stdout)
    assert [row["id"] for row in listed] == ["bootc-live-4-2.conf", "bootc-live-3-3.efi", "bootc-live-1-1.efi"]
    assert [row["isDefault"] for row in listed] == [True, False, False]
    program.run("prune", "--keep", "0", *one.options).good()
    assert len([path for path in one.boot.rglob("*.addon.efi") if path.is_file()]) == 1


@needs("ukify")
def test_a_stub_without_addons_is_refused(
    one: Machine, keys: tuple[Keys, Keys], program: ForkedProgram, tmp_path: Path
) -> None:
    own, vendor = keys
    uki = signed_uki(vendor, tmp_path)
    uki.write_bytes(uki.read_bytes().replace(b"LoaderInfo: systemd-stub 2", b"LoaderInfo: systemd-stub 1"))
    one.offer(uki_image(1, uki))
    program.run(*one.install, "--bootloader", "uki", *own.options).error("takes no arguments from an addon")


def der(pem: Path) -> bytes:
    """A certificate as firmware has it."""
    argv: list[str | Path] = ["openssl", "x509", "-in", pem, "-outform", "DER"]
    return subprocess.run(argv, capture_output=True, check=True).stdout


@needs("openssl")
def test_files_for_enrolment(one: Machine, keys: tuple[Keys, Keys], program: ForkedProgram, tmp_path: Path) -> None:
    """Each is a list of certificates with the owner's signature, which OpenSSL reads and accepts."""
    own, vendor = keys
    one.offer(secure_image(1, SIGNED))
    options = ["--bootloader", "uki", "--secure-boot", *own.options, "--sb-enroll", "--sb-db-cert", vendor.certificate]
    program.run(*one.install, *options).good()
    found = {path.name: path.read_bytes() for path in (one.boot / "loader/keys/auto").iterdir()}
    assert sorted(found) == ["KEK.auth", "PK.auth", "db.auth"]
    database = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
    for name, content in found.items():
        length = int.from_bytes(content[16:20], "little")
        listed = content[16 + length :]
        assert [der(pair.certificate) in listed for pair in keys] == [True, name == "db.auth"]
        variable = name.removesuffix(".auth")
        guid = database if variable == "db" else uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
        signed, message = tmp_path / "signed", tmp_path / "message"
        signed.write_bytes(variable.encode("utf-16-le") + guid.bytes_le + b"\x27\0\0\0" + content[:16] + listed)
        # Firmware wants the inner part of a message only.
        inner = content[40 : 16 + length]
        wrapped = bytes.fromhex("06092a864886f70d010702a082") + len(inner).to_bytes(2, "big") + inner
        message.write_bytes(b"\x30\x82" + len(wrapped).to_bytes(2, "big") + wrapped)
        verify = ["openssl", "smime", "-verify", "-inform", "DER", "-binary", "-noverify", "-out", "/dev/null"]
        run(*verify, "-in", message, "-content", signed)
    assert not has_key(one.disk, one.boot)
