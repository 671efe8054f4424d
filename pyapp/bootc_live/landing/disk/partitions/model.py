"""What a disk is to get, and what it has got: rows of partitions (UAPI.2, Discoverable Partitions Specification)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bootc_live.base.errors import ConfigError
from bootc_live.base.units import MIB, mib

ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
XBOOTLDR_TYPE = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
BIOS_BOOT_TYPE = "21686148-6449-6e6f-744e-656564454649"
# By GOARCH.
ROOT_TYPES = {
    "386": "44479540-f297-41b2-9af7-d131d5f0458a",
    "amd64": "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
    "arm": "69dad710-2ce4-4e3c-b16c-21a1d49abed3",
    "arm64": "b921b045-1df0-41c3-af44-4c6f280d3fae",
    "loong64": "77055800-792c-4f94-b39a-98c91b762bb6",
    "ppc64le": "c31c45e6-3f39-412e-80fb-4809c4980599",
    "riscv64": "72ec70a6-cf74-40e6-bd49-4bda08e8f224",
    "s390x": "5eead9a9-fe09-4a1e-a1d7-520d00531306",
}
# Nothing mounts a partition of this type by itself. Of several with the type of a root, systemd-gpt-auto-generator and
# systemd-nspawn choose one, and know no root hash of it.
SLOT_TYPE = "0fc63daf-8483-4772-8e79-3d69d8477de4"
ESP_NAME, XBOOTLDR_NAME, ROOT_NAME, SLOT_NAMES = "ESP", "XBOOTLDR", "root", ("slotA", "slotB")

_SMALLEST_ESP, _LARGEST_ESP = 64 * MIB, 1024 * MIB
# With sectors of 4096 bytes, FAT32 has a least size.
_SMALLEST_ESP_4K = 272 * MIB
# Beside a partition for kernels, it only has boot loaders.
_ENOUGH_ESP = 256 * MIB
_LARGEST_SLOT = 16 * 1024 * MIB


class FileSystem(StrEnum):
    """A file system that a partition can get."""

    VFAT = "vfat"
    EXT4 = "ext4"
    XFS = "xfs"
    BTRFS = "btrfs"


# What their mkfs programs accept, with some room.
SMALLEST = {
    FileSystem.VFAT: _SMALLEST_ESP,
    FileSystem.EXT4: 32 * MIB,
    FileSystem.XFS: 300 * MIB,
    FileSystem.BTRFS: 128 * MIB,
}


@dataclass(frozen=True)
class Partition:
    """A wanted partition: its name and type in the table, and its file system, None for none.

    Without ``size`` it gets what the others leave, and at least ``least`` bytes. One row of a disk may be so.
    """

    name: str
    kind: str
    filesystem: FileSystem | None = None
    size: int | None = None
    least: int = 0


@dataclass(frozen=True)
class MadePartition:
    """A partition that is there: its device, and where its file system is mounted.

    ``device`` is only there in the block. ``uuid`` is that of the file system, as blkid(8) and /etc/fstab write it.
    ``unverifiable`` says why fs-verity cannot be enabled for files on it, None if it can.
    """

    name: str
    device: str
    partuuid: str
    uuid: str | None = None
    directory: str | None = None
    unverifiable: str | None = None

    def mounted(self, filesystem: FileSystem) -> Mounted:
        """Return its mounted file system, whose device is named by the partition; raise ValueError if there is none."""
        if self.directory is None or self.uuid is None:
            raise ValueError(f"the partition {self.name} has no file system")
        return Mounted(self.directory, f"PARTUUID={self.partuuid}", filesystem, self.uuid)


@dataclass(frozen=True)
class Mounted:
    """A mounted file system: where, its device as fstab(5) names it (``UUID=…``), its kind, and its UUID.

    ``path`` is that of the device now, if it matters. ``subvolume`` is the path of what is mounted of btrfs, None for
    other file systems. ``kind`` is the type of its partition, and ``disk`` tells disks apart; both are empty if it is
    on no partition.
    """

    directory: str
    device: str
    filesystem: str
    uuid: str = ""
    kind: str = ""
    disk: str = ""
    subvolume: str | None = None
    path: str = ""


@dataclass(frozen=True)
class PartitionedDisk:
    """A disk with all its partitions; ``disk["root"]`` is the one of that name.

    A new file has a temporary path in the block, and ``uuid`` is that of the partition table.
    """

    path: str
    uuid: str
    partitions: tuple[MadePartition, ...]

    def __getitem__(self, name: str) -> MadePartition:
        """Return the partition with a name."""
        return next(made for made in self.partitions if made.name == name)


def usual_partitions(
    size: int,
    sector: int,
    architecture: str,
    filesystem: FileSystem = FileSystem.EXT4,
    *,
    need: int = 0,
    bios_boot: bool = False,
    slot_size: int | None = None,
    xbootldr: int | None = None,
) -> tuple[Partition, ...]:
    """Return the partitions of a disk of ``size`` bytes: ESP and root; raise ConfigError.

    The ESP has 1 GiB from 8 GiB on, else an eighth. ``need`` is what the root has to hold. ``bios_boot`` adds a
    partition in which GRUB puts itself on machines without UEFI. ``slot_size`` adds two slots for roots; 0 is a quarter
    of the disk, at most 16 GiB: two images of any usual size fit, and larger ones later. ``xbootldr`` is the size of a
    partition for kernels; without it, they are on the ESP.
    """
    if architecture not in ROOT_TYPES:
        raise ConfigError(
            f"there is no partition type for a root of the architecture {architecture!r}",
            hint=f"use an image for one of {', '.join(sorted(ROOT_TYPES))}",
        )
    smallest = _SMALLEST_ESP if sector == 512 else _SMALLEST_ESP_4K
    largest = _LARGEST_ESP if xbootldr is None else max(smallest, _ENOUGH_ESP)
    if xbootldr is not None and xbootldr < smallest:
        raise ConfigError(
            f"a partition of {mib(xbootldr)} is too small for kernels",
            hint=f"use at least --xbootldr {smallest // MIB}M",
        )
    esp = min(max(size // 8 // MIB * MIB, smallest), largest)
    rows = [
        Partition(ESP_NAME, ESP_TYPE, FileSystem.VFAT, esp),
        Partition(ROOT_NAME, ROOT_TYPES[architecture], filesystem, least=max(need, SMALLEST[filesystem])),
    ]
    if slot_size is not None:
        each = slot_size or min(size // 4 // MIB * MIB, _LARGEST_SLOT)
        rows[1:1] = [Partition(name, SLOT_TYPE, size=each) for name in SLOT_NAMES]
    if xbootldr is not None:
        rows.insert(1, Partition(XBOOTLDR_NAME, XBOOTLDR_TYPE, FileSystem.VFAT, xbootldr, SMALLEST[FileSystem.VFAT]))
    if bios_boot:
        rows.insert(0, Partition("BIOS", BIOS_BOOT_TYPE, size=MIB))
    return tuple(rows)
