"""Write files on the boot partition so that a power cut leaves the old or the new state, and no damage.

FAT has no journal. Two facts of Linux's driver give an order: syncfs(2) writes the table of clusters, which is at the
beginning, before directories (fsync(2) writes it last), and clusters of a removed file are free when it is closed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.errors import LandingError
from bootc_live.base.units import MIB, mib
from bootc_live.formats.boot_entry import parse_name
from bootc_live.system.files import no_space, sync_filesystem, write_all, write_at

# The end of names that no boot loader reads.
UNFINISHED = ".new"
# Directories of the Boot Loader Specification.
ENTRIES, UKIS = "loader/entries", "EFI/Linux"
# For directories, and for what a file system needs itself.
_RESERVE = MIB
_PRUNE = "remove deployments that are no longer needed; docs/disk.md says how kernels get a partition of their own"


@contextmanager
def boot_partition(boot: str) -> Iterator[None]:
    """Raise errors of the block that come from the file system as LandingError."""
    try:
        yield
    except OSError as error:
        if no_space(error):
            raise LandingError(f"the boot partition {boot!r} is full", hint=_PRUNE) from error
        raise LandingError(
            f"the boot partition {boot!r} cannot be changed: {error.strerror} ({error.filename or boot})",
            hint="make sure that it is mounted read-write, and check its file system with fsck.fat",
        ) from error


def require_space(boot: str, *sizes: int) -> None:
    """Raise LandingError if files of these sizes do not fit."""
    usage, needed = os.statvfs(boot), space_for_files(boot, *sizes)
    free = usage.f_bavail * usage.f_frsize
    if needed > free:
        raise LandingError(
            f"the boot partition {boot!r} has {mib(free)} free, but {mib(needed)} are needed", hint=_PRUNE
        )


def space_for_files(boot: str, *sizes: int) -> int:
    """Return the free bytes that files of these sizes need."""
    block = os.statvfs(boot).f_frsize
    return sum(-(-size // block) * block for size in sizes) + _RESERVE


def create(path: str, chunks: Iterable[bytes]) -> None:
    """Make a new file, and wait until it is on the device; after a power cut, it may be empty or not there.

    What is larger than a page may also be a part of itself, so nothing may use it yet.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            for chunk in chunks:
                write_all(fd, chunk)
        finally:
            os.close(fd)
        sync_filesystem(os.path.dirname(path))
    except OSError:
        with suppress(OSError):
            remove_file(path)
        raise


def write_small(path: str, data: bytes) -> None:
    """Make a small file by ``create``, or write it in place if it is there, padded with newlines to its former length.

    It keeps its name and its clusters, so after a power cut, it is damaged at worst. ``replace`` may leave two names of
    the same clusters, because a directory may be in several blocks; removing one of them frees those of the other.
    """
    if not os.path.isfile(path):
        create(path, [data])
        return
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        write_at(fd, 0, data.ljust(os.fstat(fd).st_size, b"\n"))
    finally:
        os.close(fd)
    sync_filesystem(os.path.dirname(path))


def replace(path: str, chunks: Iterable[bytes]) -> None:
    """Write a file that is whole whenever it has its name; one that had the name is replaced by it."""
    unfinished = path + UNFINISHED
    remove_file(unfinished)
    create(unfinished, chunks)
    try:
        rename(unfinished, path)
    except OSError:
        with suppress(OSError):
            remove_file(unfinished)
        raise


def overwrite(path: str, data: bytes) -> None:
    """Write a file in place; only what is no larger than a sector is old or new after a power cut."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        write_at(fd, 0, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def rename(old: str, new: str) -> None:
    """Rename a file that is on the device, and wait until it has its new name there."""
    os.rename(old, new)
    sync_filesystem(os.path.dirname(new))


def remove_file(path: str) -> None:
    """Remove a file, if it is there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.unlink(path)
        # A name whose clusters are free would soon share them with another file.
        sync_filesystem(os.path.dirname(path))
    finally:
        os.close(fd)


def remove_directory(path: str) -> None:
    """Remove a directory with its files."""
    for name in names(path):
        remove_file(os.path.join(path, name))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.rmdir(path)
        sync_filesystem(os.path.dirname(path))
    finally:
        os.close(fd)


def names(directory: str) -> list[str]:
    """Return the names in a directory, sorted; none if it is missing."""
    with suppress(FileNotFoundError):
        return sorted(os.listdir(directory))
    return []


def unfinished(*directories: str) -> list[str]:
    """Return the paths of what an interrupted ``replace`` has left in directories of the boot partition."""
    return [
        os.path.join(directory, name)
        for directory in directories
        for name in names(directory)
        if name.endswith(UNFINISHED) and os.path.isfile(os.path.join(directory, name))
    ]


def strange(boot: str) -> list[str]:
    """Return the paths of what has the name of a menu entry, and is no file."""
    return [
        path
        for directory in (ENTRIES, UKIS)
        for name in names(os.path.join(boot, directory))
        if parse_name(name.removesuffix(UNFINISHED).rpartition(".")[0])
        and not os.path.isfile(path := os.path.join(boot, directory, name))
    ]


def remove_unfinished(*directories: str) -> None:
    """Remove it."""
    for path in unfinished(*directories):
        remove_file(path)


def content(path: str) -> bytes:
    """Return the content of a file."""
    with open(path, "rb") as file:
        return file.read()


def replace_if_changed(path: str, wanted: bytes, boot: str) -> None:
    """Replace a file, unless it has this content."""
    with suppress(FileNotFoundError):
        if content(path) == wanted:
            return
    require_space(boot, len(wanted))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    replace(path, [wanted])


def copy_if_changed(source: str, path: str, boot: str) -> None:
    """Replace a file by a copy of another one, unless it has the same content."""
    replace_if_changed(path, content(source), boot)
