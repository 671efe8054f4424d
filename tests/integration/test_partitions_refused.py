"""Disks and files that may not be used: each has its message, and nothing of it changes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import pytest

from bootc_live.base.errors import BootcLiveError, RunError
from bootc_live.base.units import MIB, mib
from bootc_live.landing.disk.partitions.model import FileSystem
from bootc_live.landing.disk.partitions.prepare import partitioned_disk
from bootc_live.system import run as running
from bootc_live.system.devices import exclusive
from tests.lib.disks import mounted, run
from tests.lib.partitions import LARGE, SMALL, chosen, disk_of, kernel_partitions, make, rows_for

# Enters with the path of a disk, and a new path.
Use = Callable[[str, Path], AbstractContextManager[None]]


@contextmanager
def partition_mounted(device: str, there: Path) -> Iterator[None]:
    make(chosen(device))
    with kernel_partitions(device), mounted(f"{device}p2", there):
        yield


@contextmanager
def disk_mounted(device: str, there: Path) -> Iterator[None]:
    run("mkfs.ext4", "-q", device)
    with mounted(device, there):
        yield


@contextmanager
def swap(device: str, _: Path) -> Iterator[None]:
    run("mkswap", device)
    run("swapon", device)
    try:
        yield
    finally:
        run("swapoff", device)


@contextmanager
def opened(device: str, _: Path) -> Iterator[None]:
    """Let another program have it."""
    code = "import os, sys; os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL); print(flush=True); sys.stdin.read()"
    with waiting(sys.executable, "-c", code, device):
        yield


@contextmanager
def mounted_elsewhere(device: str, there: Path) -> Iterator[None]:
    """Let another namespace have a partition mounted."""
    make(chosen(device))
    there.mkdir()
    script = 'mount "$1" "$2"; echo; read _'
    with kernel_partitions(device), ExitStack() as stack:
        entered = ("unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh")
        stack.enter_context(waiting(*entered, f"{device}p2", there))
        yield


@contextmanager
def waiting(*argv: str | Path) -> Iterator[None]:
    """A program that says when it is ready, and ends with its input."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.communicate()


@contextmanager
def locked(path: str, _: Path) -> Iterator[None]:
    """Lock it, as another run of this program, or udev that hangs."""
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def in_machine(path: str, _: Path) -> Iterator[None]:
    """Lock it, as QEMU does: a byte, for reading."""
    with open(path, "rb") as file:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi0q", fcntl.F_RDLCK, os.SEEK_SET, 201, 1, 0))
        yield


def holding(content: bytes, offset: int) -> Use:
    """Bytes at an offset, from the end if it is negative."""

    @contextmanager
    def use(path: str, _: Path) -> Iterator[None]:
        with Path(path).open("r+b") as file:
            file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
            file.write(content)
        yield

    return use


def made_by(*command: str) -> Use:
    """What a program writes to it."""

    @contextmanager
    def use(path: str, _: Path) -> Iterator[None]:
        run(*command, path)
        yield

    return use


def table_of(label: str) -> Use:
    """An empty partition table."""
    return made_by("sh", "-c", f'echo "label: {label}" | sfdisk --quiet --no-reread --no-tell-kernel "$0"')


BUSY: Final = (
    "it is in use by another program, or mounted in another namespace",
    "stop that (fuser and lsof may find it)",
)
STOP: Final = "unmount or stop that, or name another one"
WIPE: Final = "destroy what is there with --wipe, or name another one"
# What it is used for, the message, and the begin of the hint. --wipe does not help.
IN_USE: Final[dict[str, tuple[Use, str, str]]] = {
    "a partition is mounted": (partition_mounted, "it is in use: DISKp2 is mounted at 'THERE'", STOP),
    "it is mounted": (disk_mounted, "it is in use: DISK is mounted at 'THERE'", STOP),
    "swap": (swap, "it is in use: DISK is swap space", STOP),
    "opened": (opened, *BUSY),
    "mounted elsewhere": (mounted_elsewhere, *BUSY),
    "locked": (locked, *BUSY),
    "disk of a machine": (in_machine, *BUSY),
}
# --wipe would help. All but the last ones are signatures that libblkid knows.
HOLDS: Final[dict[str, tuple[Use, str]]] = {
    "gpt": (table_of("gpt"), "gpt, PMBR"),
    "dos": (table_of("dos"), "dos"),
    "ext4": (made_by("mkfs.ext4", "-q", "-F"), "ext4"),
    "btrfs": (made_by("mkfs.btrfs", "-q"), "btrfs"),
    "swap": (made_by("mkswap"), "swap"),
    "encrypted": (holding(b"LUKS\xba\xbe\0\1", 0), "crypto_LUKS"),
    "first MiB": (holding(b"x", MIB - 1), "data in its first MiB"),
    "last MiB": (holding(b"x", -1), "data in its last MiB"),
    "last MiB, begin": (holding(b"x", -MIB), "data in its last MiB"),
}


def digest(image: Path, path: str) -> str:
    """What is in the file, when what was written by another way, such as a loop device, is there."""
    with open(path, "rb") as file:
        os.fsync(file)
    return hashlib.sha256(image.read_bytes()).hexdigest()


def refused(
    path: str | Path,
    message: str,
    hint: str,
    *,
    size: int | None = None,
    **options: Any,
) -> None:
    """Assert that it is refused with a message. __main__ prints that with the hint, and exits with `status`."""
    with pytest.raises(BootcLiveError) as caught:
        make(chosen(path, size), **options)
    assert (caught.value.message, caught.value.status) == (message, 1)
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("name", IN_USE)
def test_disk_in_use(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use, message, hint = IN_USE[name]
    image, there = tmp_path / "disk", tmp_path / "there"
    with disk_of(image) as device:
        with use(device, there):
            before = digest(image, device)
            monkeypatch.setattr(exclusive, "_PATIENCE", 0.1)
            said = message.replace("it", repr(device), 1).replace("DISK", device).replace("THERE", str(there))
            refused(device, said, hint, wipe=True)
            assert digest(image, device) == before
        # Once that has ended, it may be used.
        make(chosen(device), wipe=True)


@pytest.mark.parametrize(
    ("form", "name"),
    [
        *(("disk", name) for name in HOLDS),
        ("file", "ext4"),
        *(pytest.param("file", name, marks=pytest.mark.long) for name in HOLDS if name != "ext4"),
    ],
)
def test_not_empty(form: str, name: str, tmp_path: Path) -> None:
    use, found = HOLDS[name]
    image = tmp_path / "disk"
    with disk_of(image) if form == "disk" else nullcontext(str(image)) as path:
        if form == "file":
            with image.open("wb") as file:
                file.truncate(SMALL)
        with use(path, tmp_path / "there"):
            before = digest(image, path)
            refused(path, f"{path!r} is not empty; it has: {found}", WIPE)
            assert digest(image, path) == before
            make(chosen(path), wipe=True)


def test_empty(tmp_path: Path) -> None:
    """A disk of zeros, a sparse file and one of zeros need no --wipe; nor do data in the middle."""
    path = tmp_path / "disk"
    with disk_of(path) as device, holding(b"x", 40 * MIB)(device, path):
        make(chosen(device))
    for content in (b"", bytes(SMALL)):
        path.write_bytes(content)
        make(chosen(path, SMALL))


def test_partitions_of_the_kernel_are_content(tmp_path: Path) -> None:
    """There may be no table for them any more."""
    with disk_of(tmp_path / "disk") as device:
        make(chosen(device))
        nothing = [holding(bytes(MIB), offset)(device, tmp_path) for offset in (0, -MIB)]
        with kernel_partitions(device), nothing[0], nothing[1]:
            refused(device, f"{device!r} is not empty; it has: partitions", WIPE)


def test_disk_that_is_none(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    with disk_of(image) as device:
        make(chosen(device))
        before = digest(image, device)
        with kernel_partitions(device):
            hint = f"name {device}, or use 'install to-filesystem'"
            refused(f"{device}p2", f"'{device}p2' is a partition, not a disk", hint, wipe=True)
            by_id = tmp_path / "usb-Stick-part2"
            by_id.symlink_to(f"{device}p2")
            refused(by_id, f"'{by_id}' is a partition, not a disk", hint, wipe=True)
        assert digest(image, device) == before
    with disk_of(image, "--read-only") as device:
        refused(device, f"{device!r} is read-only", "remove its write protection", wipe=True)
    with disk_of(image, size=99 * MIB) as device:
        said = f"{device!r} is too small: 98 MiB are needed, and it has 97 MiB"
        os.truncate(image, 97 * MIB)
        run("losetup", "--set-capacity", device)
        refused(device, said, "name a larger disk", wipe=True)
    if os.path.exists("/dev/zram0"):
        said = "'/dev/zram0' cannot have partitions: the kernel keeps none on devices of the type 'disk'"
        refused("/dev/zram0", said, "name the disk below it", wipe=True)


def test_what_is_needed_stays(tmp_path: Path) -> None:
    """The source archive, wherever it lies, is not overwritten."""
    image, there = tmp_path / "disk", tmp_path / "there"
    with disk_of(image) as device, disk_mounted(device, there):
        archive = there / "image.oci"
        archive.write_bytes(b"archive")
        refused(
            device, f"{device!r} holds '{archive}', which is needed", "name another one", wipe=True, kept=[str(archive)]
        )
        with disk_of(there / "inner", size=MIB) as inner:
            refused(device, f"{device!r} holds '{inner}', which is needed", "name", wipe=True, kept=[inner])
        refused(device, f"{device!r} holds '{device}', which is needed", "name", wipe=True, kept=[device])
    with disk_of(tmp_path / "parts") as device, partition_mounted(device, there):
        refused(device, f"{device!r} holds '{there}/file', which is needed", "name", kept=[str(there / "file")])
    archive = tmp_path / "image.oci"
    archive.write_bytes(bytes(SMALL))
    link = tmp_path / "link"
    link.symlink_to(archive)
    refused(link, f"'{link}' holds '{archive}', which is needed", "name another one", wipe=True, kept=[str(archive)])
    target = chosen(tmp_path / "other", SMALL)
    with partitioned_disk(target, rows_for(target), kept=[str(archive), "/nowhere", "/"]):
        pass


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_bytes(b"x" + bytes(SMALL - 1))
    before = digest(old, str(old))
    refused(new, f"'{new}' has no size", "say how large the disk in this file is: --size 8G")
    refused(new, f"'{new}': 1048577 bytes are no whole number of MiB", "use --size 2M", size=MIB + 1)
    refused(new, f"'{new}' is too small: 98 MiB are needed, and it has 64 MiB", "name a larger disk", size=64 * MIB)
    said = f"'{new}': {mib(99999999 * 2**30)} are too much for a file"
    refused(new, said, "use a smaller --size", size=99999999 * 2**30)
    refused(old, f"'{old}' is not empty; it has: data in its first MiB", WIPE, size=2 * SMALL)
    refused(tmp_path, f"'{tmp_path}' is neither a disk nor a regular file", "use 'install to-filesystem'")
    refused("/dev/null", "'/dev/null' is neither a disk nor a regular file", "name a disk or a file")
    refused(tmp_path / "no/new", f"'{tmp_path}/no/new' is in no directory", "make that", size=SMALL)
    refused(old / "new", f"'{old}/new' cannot be used: Not a directory", "correct the path", size=SMALL)
    with disk_of(old) as device:
        refused(device, f"'{device}' is a disk, and has its own size", "leave out --size", size=SMALL)
        refused(old, f"'{old}' is in use by {device}", "detach it", wipe=True)
    monkeypatch.setattr(exclusive, "_PATIENCE", 0.1)
    for use in (locked, in_machine):
        with use(str(old), old):
            said = f"'{old}' is in use by another program, or mounted in another namespace"
            refused(old, said, "stop that", wipe=True)
    assert (digest(old, str(old)), sorted(os.listdir(tmp_path))) == (before, ["old"])
    there = tmp_path / "there"
    there.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=16M", "small", there)
    try:
        said = f"'{there}/new' has too little space: 32 MiB are needed, and its file system has 16 MiB"
        refused(there / "new", said, "free space there", size=SMALL)
        assert os.listdir(there) == []
    finally:
        run("umount", there)


def test_more_than_a_file_system_can_hold(tmp_path: Path) -> None:
    there = tmp_path / "there"
    with disk_of(tmp_path / "disk", size=4 * SMALL) as device, disk_mounted(device, there):
        before = os.listdir(there)
        said = f"'{there}/new' is too large for its file system: File too large"
        refused(there / "new", said, "use a smaller --size", size=2**45)
        assert os.listdir(there) == before


def test_missing_disk() -> None:
    with pytest.raises(BootcLiveError, match=r"^there is no disk '/dev/disk/by-id/nothing'; disks: "):
        chosen("/dev/disk/by-id/nothing")


PROGRAMS: Final = {
    "sfdisk": ("write partition tables", "fdisk (Debian) or util-linux (Fedora)"),
    "mkfs.vfat": ("make vfat file systems", "dosfstools"),
    "mkfs.xfs": ("make xfs file systems", "xfsprogs"),
    "wipefs": ("see whether a disk is empty", "util-linux"),
    "losetup": ("see whether a file is in use", "util-linux"),
    "lsblk": ("find disks", "util-linux"),
}


@pytest.mark.parametrize("missing", PROGRAMS)
def test_missing_programs(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before anything changes."""
    image, programs = tmp_path / "disk", tmp_path / "bin"
    programs.mkdir()
    for name in {*PROGRAMS, "mcopy"} - {missing}:
        found = running.find_program(name)
        assert found is not None, name
        (programs / name).symlink_to(found)
    image.write_bytes(b"x")
    os.truncate(image, LARGE)
    purpose, package = PROGRAMS[missing]
    with disk_of(image, size=LARGE) if missing == "lsblk" else nullcontext(str(image)) as path:
        monkeypatch.setattr(running, "_PATH", str(programs))
        with pytest.raises(RunError) as caught:
            make(chosen(path), FileSystem.XFS, wipe=missing != "wipefs")
        monkeypatch.undo()
    assert caught.value.message == f"the program {missing!r} is missing; it is needed to {purpose}"
    assert caught.value.hint.startswith(f"install {package}; ")
    with image.open("rb") as file:
        assert file.read(MIB) == b"x" + bytes(MIB - 1)
