"""Change a boot partition: vm/enter builder python3 -m tests.vm.boot_partition DIRECTORY STYLE [CHANGE [ARGUMENT…]].

It is the directory ``boot`` in DIRECTORY, and the FAT file system ``boot.img`` there: mtools copies, for the host's
kernel need not have FAT. Prints the names of its entries, the first one that is started next.

Changes are ``install`` (of the root this runs in), ``add ORDER DEPLOYMENT TRIES CMDLINE``, ``bless DEPLOYMENT``,
``promote DEPLOYMENT ORDER`` and ``damage PATH`` (the default's kernel if it is empty). With UKIs, the first one makes
keys, and ``secure.fd``, a variable store that trusts them.
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
    """Make a key, and a variable store that trusts it alone."""
    key, certificate = directory / "keys.key", directory / "keys.crt"
    if not key.exists():
        argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=keys of a machine", "-quiet"]
        run(*argv, "-keyout", key, "-out", certificate)
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
        ]
        run(*argv, directory / "secure.fd", *keys, "--sb")
    return Signing(str(key), str(certificate))


def boot_loader(style: str, directory: Path) -> BootLoader:
    match style:
        case "grub":
            return Grub()
        case "systemd-boot":
            return SystemdBoot()
    return SystemdBootUki(make_keys(directory), str(directory))


def change(loader: BootLoader, boot: str, directory: Path, argv: list[str]) -> None:
    match argv:
        case ["install"]:
            loader.install("/", boot)
        case ["add", order, deployment, tries, cmdline]:
            initrd = directory / "initrd"
            initrd.write_bytes(initramfs(BASE, deployment, plain=True))
            files = [BootFile(str(path), 0, path.stat().st_size) for path in (OUT / "vmlinuz", initrd)]
            name = EntryName(int(order), int(deployment), int(tries) or None)
            loader.add(boot, Entry(name, f"It's deployment {deployment}", cmdline), *files)
        case ["bless", deployment]:
            loader.bless(boot, int(deployment))
        case ["promote", deployment, order]:
            loader.promote(boot, int(deployment), int(order))
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
        change(loader, str(boot), directory, argv)
        image.unlink(missing_ok=True)
        run("mkfs.vfat", "-n", "ESP", "-C", image, "131072")
        run("mcopy", "-sQ", "-i", image, *(boot / name for name in sorted(os.listdir(boot))), "::/")
    print(json.dumps([str(entry.name) for entry in loader.entries(str(boot))]))


if __name__ == "__main__":
    main()
