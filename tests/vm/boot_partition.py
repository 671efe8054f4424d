"""Change a boot partition: vm/enter builder python3 -m tests.vm.boot_partition DIRECTORY STYLE [CHANGE [ARGUMENT…]].

It is the directory ``boot`` in DIRECTORY, and the FAT file system ``boot.img`` there: mtools copies, for the host's
kernel need not have FAT. Prints the names of its entries, the first one that is started next.

Changes are ``install`` (of the root this runs in), ``add ORDER DEPLOYMENT TRIES CMDLINE``, ``bless DEPLOYMENT``,
``promote DEPLOYMENT ORDER``, ``damage PATH`` (the default's kernel if it is empty) and ``enrol``, which writes what
systemd-boot enrols. With UKIs, the first one makes keys, and ``secure.fd``, a variable store that trusts them. In the
style ``brought``, an image brings them, signed by its vendor.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bootc_live.artifacts.uki import Signing
from bootc_live.formats.boot_entry import Entry, EntryName
from bootc_live.landing.disk.boot_partition.enrollment import read_enrollment, write_enrollment
from bootc_live.landing.disk.boot_partition.grub import Grub
from bootc_live.landing.disk.boot_partition.interface import BootLoader
from bootc_live.landing.disk.boot_partition.type1 import SystemdBoot
from bootc_live.landing.disk.boot_partition.type2 import SystemdBootUki
from bootc_live.rootfs.boot_files.files import BootFile
from tests.lib.boot_images import BASE, initramfs
from vmkit import emulator
from vmkit.paths import OUT


def run(*argv: str | Path) -> None:
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


def make_keys(directory: Path) -> Signing:
    """Make keys of an owner and a vendor, and a variable store that trusts both; return the owner's."""
    key, certificate, vendor = directory / "keys.key", directory / "keys.crt", directory / "vendor.crt"
    if not key.exists():
        argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=keys of a machine", "-quiet"]
        run(*argv, "-keyout", key, "-out", certificate)
        run(*argv, "-keyout", directory / "vendor.key", "-out", vendor)
        owner = Path("/proc/sys/kernel/random/uuid").read_text().strip()
        argv = ["virt-fw-vars", "--input", str(emulator.uefi(emulator.VARIABLES)), "--output"]
        keys: list[str | Path] = [
            "--set-pk",
            owner,
            certificate,
            "--add-kek",
            owner,
            certificate,
            "--add-db",
            owner,
            certificate,
            "--add-db",
            owner,
            vendor,
        ]
        run(*argv, directory / "secure.fd", *keys, "--sb")
    return Signing(str(key), str(certificate))


def vendors_uki(directory: Path, initrd: Path) -> BootFile:
    """A UKI with nothing of this machine in it."""
    made, keys = directory / "vendor.efi", [directory / "vendor.key", directory / "vendor.crt"]
    argv = ["ukify", "build", f"--linux={OUT / 'vmlinuz'}", f"--initrd={initrd}", "--cmdline=of=vendor"]
    run(*argv, f"--secureboot-private-key={keys[0]}", f"--secureboot-certificate={keys[1]}", f"--output={made}")
    return BootFile(str(made), 0, made.stat().st_size)


def boot_loader(style: str, directory: Path) -> BootLoader:
    match style:
        case "grub":
            return Grub()
        case "systemd-boot":
            return SystemdBoot()
    return SystemdBootUki(make_keys(directory), scratch=str(directory))


def change(style: str, loader: BootLoader, boot: str, directory: Path, argv: list[str]) -> None:
    match argv:
        case ["install"]:
            loader.install("/", boot)
        case ["add", order, deployment, tries, cmdline]:
            initrd = directory / "initrd"
            initrd.write_bytes(initramfs(BASE, deployment, plain=True))
            files = [BootFile(str(path), 0, path.stat().st_size) for path in (OUT / "vmlinuz", initrd)]
            name = EntryName(int(order), int(deployment), int(tries) or None)
            entry = Entry(name, f"It's deployment {deployment}", cmdline)
            if style == "brought":
                loader.add(boot, entry, vendors_uki(directory, initrd), None)
            else:
                loader.add(boot, entry, *files)
        case ["bless", deployment]:
            loader.bless(boot, int(deployment))
        case ["promote", deployment, order]:
            loader.promote(boot, int(deployment), int(order))
        case ["enrol"]:
            wanted = read_enrollment(make_keys(directory), [str(directory / "vendor.crt")])
            write_enrollment(wanted, boot, str(directory))
        case ["damage", path]:
            path = path or loader.entries(boot)[0].kernel
            os.truncate(boot + path, 0)


def main() -> None:
    directory, (style, *argv) = Path(sys.argv[1]), sys.argv[2:]
    boot, image = directory / "boot", directory / "boot.img"
    shutil.rmtree(boot, ignore_errors=True)
    boot.mkdir()
    if image.exists():
        run("mcopy", "-snQ", "-i", image, "::/*", boot)
    loader = boot_loader(style, directory)
    if argv:
        change(style, loader, str(boot), directory, argv)
        image.unlink(missing_ok=True)
        run("mkfs.vfat", "-n", "ESP", "-C", image, "131072")
        run("mcopy", "-sQ", "-i", image, *(boot / name for name in sorted(os.listdir(boot))), "::/")
    print(json.dumps([str(entry.name) for entry in loader.entries(str(boot))]))


if __name__ == "__main__":
    main()
