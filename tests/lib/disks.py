"""Disks in files: file systems, partition tables, and loop devices for them. For tests that run as root."""

from __future__ import annotations

import os
import struct
import subprocess
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_SECTOR: Final = 512
_FIRST: Final = 2048
_ENTRIES: Final = 128
_LINUX: Final = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def run(*argv: str | Path) -> str:
    """What a program writes; raises AssertionError with all it said if it fails."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}:\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def mountable(kind: str) -> bool:
    """Whether this kernel knows a file system, or can load its module."""
    subprocess.run(["modprobe", "-q", kind], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return any(line.split()[-1] == kind for line in Path("/proc/filesystems").read_text().splitlines())


def _extended(kind: str) -> Callable[[Path, Path, str], None]:
    def make(image: Path, tree: Path, label: str) -> None:
        run("mke2fs", "-q", "-t", kind, "-L", label, "-d", tree, image, "32M")

    return make


def _xfs(image: Path, tree: Path, label: str) -> None:
    with image.open("wb") as file:
        file.truncate(320 * 2**20)
    run("mkfs.xfs", "-q", "-L", label, image)
    with loop(image) as device, mounted(device, image.with_suffix(".there")) as where:
        run("cp", "-a", f"{tree}/.", where)


def _vfat(image: Path, tree: Path, label: str) -> None:
    run("mkfs.vfat", "-n", label, "-C", image, "32768")
    run("mcopy", "-i", image, "-s", *tree.iterdir(), "::")


def _iso9660(image: Path, tree: Path, label: str) -> None:
    run("xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-V", label, "-o", image, tree)


def _erofs(image: Path, tree: Path, label: str) -> None:
    run("mkfs.erofs", "-L", label, image, tree)


MAKERS: Final[dict[str, Callable[[Path, Path, str], None]]] = {
    "ext2": _extended("ext2"),
    "ext3": _extended("ext3"),
    "ext4": _extended("ext4"),
    "xfs": _xfs,
    "vfat": _vfat,
    "iso9660": _iso9660,
    "erofs": _erofs,
}


def make_disk(kind: str, image: Path, tree: Path, label: str = "LIVE") -> Path:
    """A new file with a file system that holds `tree`; gives its path."""
    MAKERS[kind](image, tree, label)
    return image


@contextmanager
def loop(image: Path, *options: str) -> Iterator[str]:
    """A loop device for a file, detached with the block; `options` go to losetup(8).

    It clears itself when nobody has it open any more: one that does not is taken for a leak, by any test that runs
    on this machine.
    """
    device = run("losetup", "--find", "--show", *options, image)
    opened = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # As long as it is open, that does no more than to tell it so.
        run("losetup", "--detach", device)
        yield device
    finally:
        os.close(opened)


@contextmanager
def mounted(device: str, where: Path, options: str = "rw") -> Iterator[Path]:
    """A device at a new directory, which is gone after the block."""
    where.mkdir()
    try:
        run("mount", "-o", options, device, where)
        try:
            yield where
        finally:
            run("umount", where)
    finally:
        where.rmdir()


def partitioned(image: Path, content: Path, label: str, identity: uuid.UUID) -> Path:
    """A disk with one partition, which holds what `content` holds; as the UEFI specification has GPT (5.3)."""
    data = content.read_bytes()
    count = -(-len(data) // _SECTOR)
    last = _FIRST + count - 1
    total = last + 1 + 33
    name = label.encode("utf-16-le").ljust(72, b"\0")
    entry = _LINUX.bytes_le + identity.bytes_le + struct.pack("<QQQ", _FIRST, last, 0) + name
    entries = entry.ljust(_ENTRIES * 128, b"\0")
    protective = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, total - 1)

    def header(here: int, other: int, table: int) -> bytes:
        body = struct.pack("<QQQQ", here, other, 34, total - 34) + identity.bytes_le
        body += struct.pack("<QIII", table, _ENTRIES, 128, zlib.crc32(entries))
        start = b"EFI PART" + struct.pack("<II", 0x10000, 92)
        return start + struct.pack("<II", zlib.crc32(start + bytes(8) + body), 0) + body

    with image.open("wb") as file:
        file.write(bytes(446) + protective + bytes(48) + b"\x55\xaa")
        file.write(header(1, total - 1, 2).ljust(_SECTOR, b"\0") + entries)
        file.seek(_FIRST * _SECTOR)
        file.write(data)
        file.seek((total - 33) * _SECTOR)
        file.write(entries + header(total - 1, 1, total - 33).ljust(_SECTOR, b"\0"))
    return image


@contextmanager
def partition(device: str) -> Iterator[str]:
    """The first partition of a loop device; by partx(8), as not every kernel reads partition tables itself."""
    run("partx", "--add", "--nr", "1", device)
    try:
        yield f"{device}p1"
    finally:
        # It would outlive the loop device, and hide what that holds next from blkid.
        run("partx", "--delete", "--nr", "1", device)


def probed(device: str | Path) -> dict[str, str]:
    """What udev would know of a device or file, by libblkid's own words."""
    lines = (line.partition("=") for line in run("blkid", "-p", "-o", "udev", device).splitlines())
    return {name: value for name, _, value in lines}
