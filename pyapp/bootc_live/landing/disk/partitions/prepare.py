"""Make the partitions and file systems of a disk, and undo that unless all that follows succeeds.

The table is written first and the boot loader last, by whoever fills the disk, so a disk that loses power between them
boots nothing. After an error or a signal, a new file is gone; a disk, or a file that was there, is empty: it has no
table, and the same command works again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from bootc_live.base.errors import ConfigError, RunError, about
from bootc_live.base.units import MIB
from bootc_live.landing.disk.partitions.check import (
    busy_named,
    check_disk,
    check_empty,
    check_kept,
    check_no_loop,
    check_space,
)
from bootc_live.landing.disk.partitions.choose import FILE_SECTOR, Target
from bootc_live.landing.disk.partitions.filesystems import (
    filled,
    make_filesystem,
    require_filesystems,
    verity_problem,
)
from bootc_live.landing.disk.partitions.model import MadePartition, Partition, PartitionedDisk
from bootc_live.landing.disk.partitions.table import Placed, place, require_sfdisk, write_table
from bootc_live.system.cleanup.directories import directory_in_shared
from bootc_live.system.cleanup.guard import owned
from bootc_live.system.cleanup.new_results import publish_file, staging_directory
from bootc_live.system.devices.exclusive import claimed, locked
from bootc_live.system.devices.loop import loop_device
from bootc_live.system.devices.partitions import (
    add_partition,
    disk_sequence,
    kernel_name,
    partitions_of,
    reads_tables,
    remove_partitions,
)
from bootc_live.system.files import write_at

_SHARED = "/run/bootc-live"
# An image of a disk holds keys and hashes of passwords.
_MODE = 0o600


@contextmanager
def partitioned_disk(
    target: Target, rows: Sequence[Partition], *, wipe: bool = False, kept: Collection[str] = ()
) -> Iterator[PartitionedDisk]:
    """Make partitions on a disk or in a file, mount them for the block, and yield where they are.

    When the block ends well, everything is on the disk, and the disk is the result of the program: later signals are
    ignored. ``wipe`` allows to destroy what is there. ``kept`` are files and devices that must not be on the target.
    Raise ConfigError for a target that may not be used, with nothing changed, and RunError.
    """
    with ExitStack() as stack:
        with about(repr(target.typed)):
            placed = _checked(target, rows, kept)
            if target.disk is not None:
                disk = stack.enter_context(_on_disk(target, placed, wipe))
            elif target.exists:
                disk = stack.enter_context(_in_file(target, placed, wipe))
            else:
                disk = stack.enter_context(_in_new_file(target, placed))
        yield disk


def _checked(target: Target, rows: Sequence[Partition], kept: Collection[str]) -> tuple[Placed, ...]:
    """Return the places of partitions, if the target and this machine are fit for them."""
    check_kept(target, kept)
    if target.disk is not None:
        check_disk(target.disk)
    elif target.exists:
        check_no_loop(target.path)
    placed = place(rows, target.size)
    check_space(target, sum(row.least for row in rows))
    require_sfdisk()
    require_filesystems({row.filesystem for row in rows if row.filesystem is not None})
    return placed


@contextmanager
def _on_disk(target: Target, placed: Sequence[Placed], wipe: bool) -> Iterator[PartitionedDisk]:
    with ExitStack() as stack:
        with busy_named():
            # Programs that make file systems want each partition for themselves, so this has to end before.
            claim = stack.enter_context(ExitStack())
            claim.enter_context(claimed(target.path))
            fd = stack.enter_context(locked(target.path))
        if not wipe:
            check_empty(target, fd)
        name = kernel_name(target.path)
        made = stack.enter_context(owned(_begin, _empty_disk, target.path, disk_sequence(name)))
        uuid = write_table(target.path, placed)
        remove_partitions(fd, name)
        for part in placed:
            add_partition(fd, part.number, part.start, part.size)
        devices = partitions_of(name)
        for device in devices.values():
            if not os.path.exists(device):
                raise RunError(f"there is no {device}", hint="mount a devtmpfs file system at /dev")
        claim.close()
        with _filesystems(target.path, uuid, [(part, devices[part.number]) for part in placed]) as disk:
            yield disk
        os.fsync(fd)
        if not reads_tables(name):
            # Partitions of such a loop device would outlive it, and be those of what it has next.
            remove_partitions(fd, name)
        made.keep()


@contextmanager
def _in_file(target: Target, placed: Sequence[Placed], wipe: bool) -> Iterator[PartitionedDisk]:
    with ExitStack() as stack:
        with busy_named():
            fd = stack.enter_context(locked(target.path))
        if not wipe:
            check_empty(target, fd)
        made = stack.enter_context(owned(_empty_file, _empty_again, target.path, target.size))
        with _image(target.path, fd, placed) as disk:
            yield disk
        made.keep()


@contextmanager
def _in_new_file(target: Target, placed: Sequence[Placed]) -> Iterator[PartitionedDisk]:
    with staging_directory(target.path) as directory:
        path = os.path.join(directory, "disk")
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
        try:
            _empty_file(path, target.size)
        except OSError as error:
            raise ConfigError(
                f"it is too large for its file system: {error.strerror}",
                hint="use a smaller --size, or a path on another file system",
            ) from error
        with locked(path) as fd, _image(path, fd, placed) as disk:
            yield disk
        publish_file(path, target.path, _MODE)


@contextmanager
def _image(path: str, fd: int, placed: Sequence[Placed]) -> Iterator[PartitionedDisk]:
    uuid = write_table(path, placed)
    with ExitStack() as stack:
        # A loop device for each: nobody has to read the table, and no partition outlives its loop device.
        devices = [
            (
                part,
                stack.enter_context(
                    loop_device(fd, path, FILE_SECTOR, offset=part.start, size=part.size, writable=True)
                ),
            )
            for part in placed
        ]
        with _filesystems(path, uuid, devices) as disk:
            yield disk
    os.fsync(fd)


@contextmanager
def _filesystems(path: str, uuid: str, devices: Sequence[tuple[Placed, str]]) -> Iterator[PartitionedDisk]:
    with ExitStack() as stack:
        made = [_filesystem(stack, part, device) for part, device in devices]
        yield PartitionedDisk(path, uuid, tuple(made))


def _filesystem(stack: ExitStack, part: Placed, device: str) -> MadePartition:
    """Make the file system of a partition, and mount it until the stack ends."""
    row, kind = part.row, part.row.filesystem
    if kind is None:
        return MadePartition(row.name, device, part.partuuid)
    uuid = make_filesystem(kind, device)
    directory = stack.enter_context(directory_in_shared(_SHARED, f"disk-{row.name}."))
    stack.enter_context(filled(kind, device, directory))
    return MadePartition(row.name, device, part.partuuid, uuid, directory, verity_problem(kind, directory))


def _begin(path: str, sequence: str) -> list[str]:
    return [path, sequence]


def _empty_disk(begun: list[str]) -> None:
    """Make a disk empty in the sense of ``check_empty``, if it is still the same."""
    path, sequence = begun
    # It may have been unplugged: what led here tells so. This process may have it locked.
    with suppress(OSError), open(path, "r+b", buffering=0) as file:
        fd = file.fileno()
        name = kernel_name(path)
        if disk_sequence(name) != sequence:
            return
        for offset in (0, os.lseek(fd, 0, os.SEEK_END) - MIB):
            write_at(fd, offset, bytes(MIB))
        os.fsync(fd)
        remove_partitions(fd, name)


def _empty_file(path: str, size: int) -> tuple[str, int]:
    """Make all of a file a hole."""
    os.truncate(path, 0)
    os.truncate(path, size)
    return path, size


def _empty_again(made: tuple[str, int]) -> None:
    _empty_file(*made)
