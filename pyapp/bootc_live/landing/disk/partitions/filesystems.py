"""Make file systems, mount them, and find out whether they have fs-verity."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.errors import RunError
from bootc_live.landing.disk.partitions.model import FileSystem
from bootc_live.landing.disk.partitions.table import new_uuid
from bootc_live.system.files import sync_filesystem
from bootc_live.system.mounts import mounted, require_kind
from bootc_live.system.run import require_program, run

_PACKAGES = {
    FileSystem.VFAT: "dosfstools",
    FileSystem.EXT4: "e2fsprogs",
    FileSystem.XFS: "xfsprogs",
    FileSystem.BTRFS: "btrfs-progs",
}
# The EFI system partition may hold keys, and has no owners and modes.
_OPTIONS = {FileSystem.VFAT: "umask=0077"}
_LOOK = "look at the kernel log (dmesg)"
# struct fsverity_enable_arg: version, algorithm (1 is SHA-256), size of blocks, salt, signature.
_ENABLE_VERITY, _VERITY = 0x40806685, struct.pack("=IIIIQIIQ88x", 1, 1, 4096, 0, 0, 0, 0, 0)


def require_filesystems(kinds: Iterable[FileSystem]) -> None:
    """Raise RunError if a program that makes one of these file systems is missing."""
    for kind in kinds:
        require_program(f"mkfs.{kind}", f"make {kind} file systems", _PACKAGES[kind])
        if kind is FileSystem.VFAT and not _can_mount(kind):
            _mcopy()


def make_filesystem(kind: FileSystem, device: str) -> str:
    """Make a file system on a device, whatever it held, and return its UUID; raise RunError."""
    uuid = new_uuid()
    match kind:
        case FileSystem.VFAT:
            serial = uuid.replace("-", "")[:8]
            options, uuid = ["-F", "32", "-I", "-i", serial], f"{serial[:4]}-{serial[4:]}".upper()
        case FileSystem.EXT4:
            # fs-verity needs blocks as large as pages before Linux 6.3, and mkfs.ext4 makes small ones for small disks.
            options = ["-q", "-F", "-b", "4096", "-O", "verity", "-U", uuid]
        case FileSystem.XFS:
            options = ["-q", "-f", "-m", f"uuid={uuid}"]
        case _:
            options = ["-q", "-f", "-U", uuid]
    run([f"mkfs.{kind}", *options, device], hint=_LOOK)
    return uuid


@contextmanager
def filled(kind: FileSystem, device: str, where: str) -> Iterator[None]:
    """Mount a new file system for the block; when it ends well, all of it is on the device. Raise RunError.

    Where the kernel has no VFAT, as in some virtual machines, files are kept in RAM and copied when the block ends.
    """
    if kind is FileSystem.VFAT and not _can_mount(kind):
        with mounted("tmpfs", "bootc-live-esp", where, "mode=0700", hint=_LOOK):
            yield
            files = [os.path.join(where, name) for name in sorted(os.listdir(where))]
            if files:
                run([_mcopy(), "-s", "-m", "-Q", "-i", device, *files, "::"], hint="make the partition larger")
    else:
        with mounted(kind, device, where, _OPTIONS.get(kind, "rw"), hint=f"use a kernel that has {kind}"):
            with _written(where):
                yield
            # Not lazily: it is an error if something still writes there.
            run(["umount", where], hint="stop what still uses it")
    with open(device, "rb") as file:
        os.fsync(file)


@contextmanager
def _written(where: str) -> Iterator[None]:
    """Raise RunError if something that was written to a file system in the block did not get to its device.

    Unmounting does not tell so.
    """
    top = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield
        try:
            sync_filesystem(top)
        except OSError as error:
            raise RunError(
                f"the disk cannot be written: {error.strerror}",
                hint="look at the kernel log (dmesg); for a file, free space on its file system",
            ) from error
    finally:
        os.close(top)


def verity_problem(kind: FileSystem, directory: str) -> str | None:
    """Return why fs-verity cannot be enabled for files of a mounted file system, or None if it can."""
    path = os.path.join(directory, ".verity-probe")
    try:
        with open(path, "xb") as file:
            file.write(b"probe")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _ENABLE_VERITY, _VERITY)
        finally:
            os.close(fd)
    except OSError as error:
        return f"this kernel refuses fs-verity on {kind}: {error.strerror}"
    finally:
        with suppress(OSError):
            os.unlink(path)
    return None


def _can_mount(kind: FileSystem) -> bool:
    try:
        require_kind(kind)
    except OSError:
        return False
    return True


def _mcopy() -> str:
    return require_program("mcopy", "fill an EFI system partition without VFAT in the kernel", "mtools")
