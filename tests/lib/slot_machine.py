"""Machines whose roots are in slots, on disks in files: their partitions, and whether what would boot is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bootc_live.base.units import MIB
from bootc_live.formats.boot_entry import Entry
from bootc_live.landing.disk.boot_partition.type1 import SystemdBoot
from bootc_live.landing.disk.deployments import Deployment, Deployments
from bootc_live.landing.disk.storage.slots import wrong_in_slot
from tests.lib.boot_images import kernel_layer
from tests.lib.disk_machine import JUDGE
from tests.lib.disks import loop, mounted, run
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.partitions import kernel_partitions
from tests.lib.program import Program
from tests.lib.small_image import BASE, HERE
from tests.lib.tar_writer import directory, file, layer

SLOT: Final = 8 * MIB
_LOADER: Final = "usr/lib/systemd/boot/efi/"
_PARENTS: Final = [directory("/".join(_LOADER.split("/")[:depth]) + "/") for depth in range(1, 6)]


def kernel(number: int) -> bytes:
    """The kernel of an image."""
    return b"kernel %d " % number * 100


def slot_archive(path: Path, number: int, *more: bytes) -> Path:
    """An archive of an image that can boot from a disk; its kernel, /etc/number and /usr/number tell which it is."""
    tars = (
        BASE,
        layer(*_PARENTS, file(f"{_LOADER}systemd-bootx64.efi", b"a boot loader " * 300), file(JUDGE, "[Service]\n")),
        kernel_layer(kernel=kernel(number)),
        layer(file("usr/number", b"%d\n" % number * 3000), file("etc/number", f"{number}\n")),
        *more,
    )
    return write_archive(path, Image([Layer(tar) for tar in tars], architecture=HERE))


def install(program: Program, archive: Path, disk: Path) -> dict[str, Any]:
    """Install an archive on a new disk in a file; return what is told of it."""
    slots = ("--storage", "slots", "--slot-size", str(SLOT // MIB))
    argv: list[str | Path] = ["install", "to-disk", disk, "--size", "160M", "--source", archive, "--json", *slots]
    told: dict[str, Any] = json.loads(program.run(*argv).good().stdout)
    return told


@dataclass(frozen=True)
class SlotMachine:
    """A disk in a file, with its partitions: the root's file system is mounted, the boot partition was copied."""

    device: str
    disk: Path
    boot: Path

    @property
    def options(self) -> tuple[str | Path, ...]:
        """The options that name it."""
        return "--disk", self.disk, "--boot", self.boot

    @property
    def deployments(self) -> Deployments:
        """Its deployments."""
        return Deployments(str(self.disk))

    @property
    def names(self) -> list[str]:
        """The names of its boot entries, the one that is started next first."""
        return [str(entry.name) for entry in self.entries]

    @property
    def entries(self) -> list[Entry]:
        """Its boot entries."""
        return SystemdBoot().entries(str(self.boot))

    def slot(self, letter: str) -> Path:
        """The device of a slot."""
        return Path(f"{self.device}p{'AB'.index(letter) + 2}")

    def letter(self, deployment: int) -> str:
        """The slot of a deployment."""
        slots = json.loads((self.disk / "bootc-live/machine.json").read_text())["slots"]
        return "AB"[slots.index(self.deployments.read(deployment).slot)]

    def record(self, deployment: int) -> Path:
        """The record of a deployment."""
        return self.disk / f"bootc-live/deployments/{deployment}/deployment.json"

    def change_record(self, deployment: int, **changed: object) -> None:
        """Do what anybody with the disk can do."""
        record = self.record(deployment)
        record.write_text(json.dumps({**json.loads(record.read_text()), **changed}))

    def flip(self, letter: str, offset: int) -> None:
        """Change one bit of a slot."""
        with self.slot(letter).open("r+b", buffering=0) as opened:
            opened.seek(offset)
            (byte,) = opened.read(1)
            opened.seek(offset)
            opened.write(bytes([byte ^ 1]))

    def content(self, letter: str) -> bytes:
        """All of a slot."""
        return self.slot(letter).read_bytes()

    def boots(self) -> int:
        """The number of the image that boots next; all that it needs is whole."""
        first = self.entries[0]
        made: Deployment = self.deployments.read(first.name.deployment)
        assert f":{made.number}@{made.root}" in first.cmdline
        assert list(wrong_in_slot(made)) == []
        number = int((self.disk / f"bootc-live/deployments/{made.number}/etc/number").read_text())
        assert (self.boot / first.kernel[1:]).read_bytes() == kernel(number)
        assert (self.boot / first.initrd[1:]).exists()
        return number


@contextmanager
def slot_machine(disk: Path, where: Path) -> Iterator[SlotMachine]:
    """The machine on a disk in a file, until the block ends; `where` is a new directory."""
    where.mkdir()
    with loop(disk) as device, kernel_partitions(device):
        run("mcopy", "-s", "-Q", "-i", f"{device}p1", "::", where / "boot")
        with mounted(f"{device}p4", where / "disk") as top:
            yield SlotMachine(device, top, where / "boot")
    shutil.rmtree(where)


def changed(told: dict[str, Any]) -> dict[str, Any]:
    """What ``verify`` tells of each deployment's blocks."""
    return {number: each["changed"] for number, each in told.items()}
