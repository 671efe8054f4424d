"""Machines with a disk that `bootc-live install to-disk` made.

In QEMU, firmware and the boot loader start them. User-mode Linux has no firmware: the boot loader's part is played
here. Debian builds it without fs-verity.
"""

from __future__ import annotations

import json
import mmap
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from testinfra.host import Host

from bootc_live.formats.boot_entry import EntryName, parse_name
from bootc_live.formats.fsverity import VerityHasher
from bootc_live.landing.disk.boot_partition.grub_script import environment_word
from tests.vm.builder import change_boot_partition, in_builder, put_program
from tests.vm.inside import connect, power_off
from tests.vm.kinds import Kind
from vmkit import emulator
from vmkit.base import BaseGuest, Ready
from vmkit.guest import Guest
from vmkit.paths import OUT, REPO, ZIPAPP
from vmkit.start import Kernel, Uefi
from vmkit.uml import UmlGuest

BOOT_SECONDS: Final = 900
OFF_SECONDS: Final = 180
SIZE: Final = "3G"
MEMORY: Final = 3072
MIB: Final = 2**20
SECTOR: Final = 512
BLOCK: Final = 4096
"""Of the root; fs-verity wants no other one."""
SUPERBLOCK: Final = 1024
"""Where EROFS has it."""
UNIT: Final = "bootc-live-install.service"
JUDGE: Final = "bootc-live-health.service"
FINALIZE: Final = "bootc-live-finalize.service"
# What makes partitions, file systems and a boot loader, without a shell: libraries as well.
PROGRAMS: Final = tuple(
    (  # noqa: SIM905 # words
        "fdisk libfdisk1 libsmartcols1 dosfstools e2fsprogs libext2fs2t64 libss2 libcom-err2 "
        "systemd-boot-efi systemd-boot-efi-amd64-signed shim-signed shim-helpers-amd64-signed grub-efi-amd64-signed "
        "systemd-ukify python3-pefile sbsigntool efibootmgr libefivar1t64 libefiboot1t64 "
        "btrfs-progs liblzo2-2"
    ).split()
)
VICTIMS: Final = {name: f"{name} as the image has it\n".encode() * 500 for name in ("flipped", "replaced")}
"""Files below /usr/share of the image."""
ENVIRONMENT: Final = "::/EFI/debian/grubenv"
# The image has no modules for User-mode Linux: the initramfs has to load what the system needs later, and Python's
# package has a file for systemd-binfmt. After a panic, it waits for minutes instead of seconds.
_UML: Final = " ".join(
    [
        *(f"rd.driver.pre={name}" for name in ("vfat", "nls_cp437", "nls_iso8859-1")),
        "systemd.mask=systemd-binfmt.service",
    ]
)


@dataclass(frozen=True)
class InstalledDisk:
    """A disk in a file: where its boot partition and its root begin, in bytes; the machine, and its boot loader.

    ``slots`` are where slots begin, ``filesystem`` is that of the root.
    ``variables`` are the firmware's, if Secure Boot is on. ``kept`` are those that the machine has written itself.
    """

    file: Path
    boot: int
    root: int
    kind: Kind
    loader: str
    slots: tuple[int, ...] = ()
    filesystem: str = "ext4"
    variables: Path | None = None
    kept: Path | None = None

    @property
    def esp(self) -> str:
        """The boot partition as mtools call it."""
        return f"{self.file}@@{self.boot}"

    @property
    def ext4(self) -> str:
        """The root as e2fsprogs call it."""
        return f"{self.file}?offset={self.root}"

    def entries(self) -> list[EntryName]:
        """Return the names of the entries in the order of boot loaders: the first one is started next."""
        if self.loader == "grub":
            block = in_builder("mtype", "-i", self.esp, ENVIRONMENT)
            stems = [f"bootc-live-{word}" for word in re.findall("^bootc_live_entries=(.*)", block, re.M)[0].split()]
        else:
            listed = in_builder("mdir", "-b", "-i", self.esp, self._path("").rpartition("/")[0])
            stems = [path.rpartition("/")[2].rpartition(".")[0] for path in listed.split()]
        names = [name for name in map(parse_name, stems) if name]
        return sorted(names, key=lambda name: (name.left == 0, -name.order))

    @property
    def verity(self) -> bool:
        """Whether the machine's kernel has fs-verity."""
        return self.kind is Kind.QEMU

    @contextmanager
    def started(self) -> Iterator[BaseGuest]:
        """Start the machine; its firmware starts the boot loader."""
        if self.kind is Kind.QEMU:
            secure = self.variables is not None
            start = Uefi(self.file, self.variables, secure=secure, writable=True, kept=self.kept)
            with Guest(start) as guest:
                yield guest
                assert ("Secure boot enabled" in guest.console()) == secure
            return
        with tempfile.TemporaryDirectory(prefix="started-", dir=self.file.parent) as name:
            initrd, cmdline = self._begin(Path(name))
            with UmlGuest(Kernel(initrds=[initrd], append=f"{cmdline} {_UML}"), kept=[self.file]) as guest:
                yield guest

    def _begin(self, directory: Path) -> tuple[Path, str]:
        """Do what systemd-boot does: take one try from the entry that comes first, and read its files."""
        text = in_builder("mtype", "-i", self.esp, self._path(self.count()))
        said = dict(line.split(" ", 1) for line in text.splitlines())
        in_builder("mcopy", "-i", self.esp, f"::{said['initrd']}", directory / "initrd")
        return directory / "initrd", said["options"]

    def count(self) -> EntryName:
        """Take one try from the entry that comes first; return its name."""
        old = self.entries()[0]
        if not old.left:
            return old
        new = EntryName(old.order, old.deployment, old.left - 1, old.done + 1)
        if self.loader == "grub":
            block = in_builder("mtype", "-i", self.esp, ENVIRONMENT)
            changed = self.file.with_name("grubenv")
            changed.write_text(block.replace(environment_word(old), environment_word(new)))
            in_builder("mcopy", "-o", "-i", self.esp, changed, ENVIRONMENT)
        else:
            in_builder("mren", "-i", self.esp, self._path(old), self._path(new))
        return new

    def count_to_last(self) -> None:
        """Leave one try to the entry that comes first, as if it had been started and failed."""
        while (self.entries()[0].left or 0) > 1:
            self.count()

    def _path(self, name: EntryName | str) -> str:
        """Return the path of an entry as mtools call it."""
        return f"::/EFI/Linux/{name}.efi" if self.loader == "uki" else f"::/loader/entries/{name}.conf"

    @contextmanager
    def running(self, *, clean: bool = True) -> Iterator[tuple[Ready, Host]]:
        """Boot it, and shut it down after the block: if it is to be clean, everything is unmounted then."""
        with self.started() as guest:
            ready = guest.wait_ready(BOOT_SECONDS)
            print(f"ready after {ready.seconds:.0f} s")
            assert (ready.target, ready.failed) == ("multi-user.target", 0)
            host = connect(guest, lasting=True)
            yield ready, host
            before = len(guest.console())
            power_off(host)
            guest.wait_exit(OFF_SECONDS)
            said = guest.console()
        assert "Buffer I/O error" not in said
        said = said[before:]
        assert "reboot: Power down" in said
        for complaint in ("Failed unmounting", "Failed to unmount", "FAILED"):
            assert complaint not in said
        assert not clean or self._is_clean()

    def _is_clean(self) -> bool:
        """Check the root; return whether it was unmounted, and has no faults."""
        if self.filesystem == "ext4":
            return re.search(r": clean,", in_builder("e2fsck", "-n", self.ext4)) is not None
        with tempfile.NamedTemporaryFile(dir=self.file.parent) as part:
            # What is not mounted has an empty log.
            check, log = {
                "xfs": ('xfs_repair -n -f "$1" 2>&1', "No modify flag set"),
                "btrfs": ('btrfs -q check "$1" && btrfs inspect-internal dump-super "$1"', r"\nlog_root\s+0\n"),
            }[self.filesystem]
            copy = f'dd if="$0" of="$1" bs=1M skip={self.root // MIB} conv=sparse status=none'
            said = in_builder("sh", "-c", f"{copy} && {check}", self.file, part.name)
        return re.search(log, said) is not None and "ALERT" not in said

    def failed(self) -> str:
        """Boot it until it restarts by itself; return its console."""
        with self.started() as guest:
            guest.wait_exit(BOOT_SECONDS)
            return guest.console()

    def flip(self, path: str) -> None:
        """Change the first byte of a file of the root, where it lies on the disk."""
        blocks = in_builder("debugfs", "-R", f"blocks {path}", self.ext4).split()
        self.flip_at(self.root + int(blocks[0]) * BLOCK)

    def flip_content(self, content: bytes, start: int) -> None:
        """Change the first byte of a file's content, the first that lies at a byte of the disk or behind it."""
        with self.file.open("rb") as disk, mmap.mmap(disk.fileno(), 0, prot=mmap.PROT_READ) as whole:
            found = whole.find(content[:BLOCK], start)
        assert found >= start
        self.flip_at(found)

    def flip_at(self, offset: int) -> None:
        """Change the byte at an offset of the disk."""
        with self.file.open("r+b") as disk:
            disk.seek(offset)
            (byte,) = disk.read(1)
            disk.seek(-1, 1)
            disk.write(bytes([byte ^ 1]))


def install(archive: Path, file: Path, kind: Kind, loader: str, *options: str | Path) -> InstalledDisk:
    """Install an archive on a new disk in a file, in the builder root."""
    argv: list[str | Path] = ["--bootloader", loader, "--karg", "console=ttyS0", *options]
    in_builder(ZIPAPP, "install", "to-disk", file, "--size", SIZE, "--source", archive, *argv)
    return read_disk(file, kind, loader)


def install_for_secure_boot(archive: Path, file: Path, loader: str) -> InstalledDisk:
    """Do the same for a machine with Secure Boot: with a key of its own for UKIs, and for all else behind shim."""
    keys: tuple[str | Path, ...] = ()
    variables = emulator.uefi(emulator.VENDOR_VARIABLES)
    if loader == "uki":
        change_boot_partition(file.parent, "uki")
        keys = ("--sb-key", file.parent / "keys.key", "--sb-cert", file.parent / "keys.crt", "--keep-key")
        variables = file.parent / "secure.fd"
    return replace(install(archive, file, Kind.QEMU, loader, "--secure-boot", *keys), variables=variables)


def live_guest(kind: Kind, append: str, disk: Path, variables: Path) -> BaseGuest:
    """A machine that boots live, and has a disk; its firmware keeps its variables in a file."""
    initrd = OUT / "initrd.img"
    if kind is Kind.UML:
        return UmlGuest(Kernel(initrds=[initrd], append=f"{append} {_UML}"), memory=MEMORY, kept=[disk])
    kernel = Kernel(initrds=[initrd], append=append)
    return Guest(Uefi(disk, writable=True, kernel=kernel, kept=variables), memory=MEMORY)


def read_disk(file: Path, kind: Kind, loader: str) -> InstalledDisk:
    """Return the disk in a file, whose first partition is for booting, and whose last one is the root."""
    table = json.loads(in_builder("sfdisk", "--json", file))["partitiontable"]
    boot, *slots, root = (part["start"] * SECTOR for part in table["partitions"])
    filesystem = in_builder("blkid", "-p", "-o", "value", "-s", "TYPE", "-O", str(root), file).strip()
    return InstalledDisk(file, boot, root, kind, loader, tuple(slots), filesystem)


def object_of(content: bytes) -> str:
    """Return the path of a file's content on the root."""
    hasher = VerityHasher()
    hasher.update(content)
    digest = hasher.digest()
    return f"/bootc-live/objects/{digest[:2]}/{digest[2:]}"


def machine_archive(directory: Path, *more: Path) -> Path:
    """Make the image of a machine that can be installed, and that can install others; `more` are trees on top."""
    own = directory / "own"
    put_program(own)
    units = own / "usr/lib/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True)
    # An installation enables the second one.
    for unit in (UNIT, FINALIZE):
        shutil.copyfile(REPO / "systemd" / unit, units / unit)
    (units / "multi-user.target.wants" / UNIT).symlink_to(f"../{UNIT}")
    # So that boots are counted; the tests call them good themselves.
    (units / JUDGE).write_text("[Service]\nType=oneshot\nExecCondition=false\nExecStart=true\n")
    (own / "usr/share").mkdir()
    for name, content in VICTIMS.items():
        (own / "usr/share" / name).write_bytes(content)
    in_builder("vm/pivot/layer", directory / "programs.tar", *PROGRAMS)
    return build(directory / "machine.oci", OUT / "live.oci", directory / "programs.tar", own, *more)


def build(made: Path, *sources: str | Path) -> Path:
    """Make the archive ``made`` of sources; return its path."""
    argv: list[str | Path] = [sys.executable, ZIPAPP, "build", *sources, "--output", made]
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=True)
    return made
