"""Partitions made on disks in files and on loop devices, as install to-disk makes them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bootc_live.base.units import MIB
from bootc_live.landing.disk.partitions.choose import DiskChoice, Target, choose_target
from bootc_live.landing.disk.partitions.model import FileSystem, Partition, PartitionedDisk, usual_partitions
from bootc_live.landing.disk.partitions.prepare import partitioned_disk
from tests.lib.disks import loop, run
from tests.lib.leaks import SETTLE_SECONDS

# Room for XFS, and for ext4.
LARGE, SMALL = 512 * MIB, 128 * MIB
ROOT_KINDS: Final = [kind for kind in FileSystem if kind is not FileSystem.VFAT]


def chosen(path: str | Path, size: int | None = None) -> Target:
    """A disk or file by its path."""
    return choose_target(DiskChoice(path=str(path), size=size))


def rows_for(target: Target, kind: FileSystem = FileSystem.EXT4, **more: Any) -> tuple[Partition, ...]:
    """The usual partitions."""
    return usual_partitions(target.size, target.sector, "amd64", kind, **more)


def make(target: Target, kind: FileSystem = FileSystem.EXT4, **options: Any) -> PartitionedDisk:
    """Make the usual partitions, with a file in each."""
    with partitioned_disk(target, rows_for(target, kind), **options) as disk:
        fill(disk)
    return disk


def fill(disk: PartitionedDisk) -> None:
    """Write a file to each file system."""
    for made in disk.partitions:
        if made.directory is not None:
            (Path(made.directory) / "file").write_bytes(b"content")


def table(path: str | Path) -> dict[str, Any]:
    """What sfdisk reads."""
    read: dict[str, Any] = json.loads(run("sfdisk", "--json", path))["partitiontable"]
    return read


@contextmanager
def disk_of(path: Path, *options: str, size: int = SMALL) -> Iterator[str]:
    """A loop device for a file, which is made if it is not there."""
    with path.open("ab") as file:
        file.truncate(size)
    with loop(path, *options) as device:
        yield device


@contextmanager
def kernel_partitions(device: str) -> Iterator[None]:
    """Let the kernel have the partitions of a loop device for the block: they would outlive it."""
    run("partx", "--add", device)
    try:
        yield
    finally:
        deadline = time.monotonic() + SETTLE_SECONDS
        # A loop device of a partition that was unmounted clears itself a moment later.
        while any(Path(f"/sys/class/block/{Path(device).name}").glob("loop*p*")):
            try:
                run("partx", "--delete", device)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
