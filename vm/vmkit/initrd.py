"""Joining initrds, and unpacking them as the kernel does."""

import mmap
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_CPIO: Final = (b"070701", b"070702")
_CPIO_HEADER: Final = 110
_TRAILER: Final = b"TRAILER!!!\0"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ANYTHING: Final = re.compile(b"[^\\0]")


def concatenate(parts: Sequence[Path], out: Path) -> None:
    """Join initrds as boot loaders do: each part starts at a multiple of four bytes.

    The kernel looks for an uncompressed archive at such places only
    (Documentation/driver-api/early-userspace/buffer-format.rst).
    """
    with out.open("wb") as target:
        for part in parts:
            target.write(bytes(-target.tell() % 4))
            with part.open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)


def unpack(file: Path, into: Path) -> None:
    """Unpack all archives of an initrd, plain ones and those that are compressed with zstd, into a directory.

    Raises ValueError for anything else, and CalledProcessError where cpio or zstd fails.
    """
    with file.open("rb") as source, mmap.mmap(source.fileno(), 0, prot=mmap.PROT_READ) as data:
        for start, end in _archives(data):
            argv = ["cpio", "--extract", "--make-directories", "--preserve-modification-time", "--unconditional"]
            argv += ["--quiet", f"--directory={into}"]
            if data[start : start + 4] != _ZSTD:
                os.lseek(source.fileno(), start, os.SEEK_SET)
                subprocess.run(argv, stdin=source, check=True)
                continue
            with subprocess.Popen(["zstd", "-dcq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as plain:
                assert plain.stdin
                with subprocess.Popen(argv, stdin=plain.stdout) as cpio, plain.stdin as stdin:
                    stdin.write(data[start:end])
            for done in (plain, cpio):
                if done.returncode:
                    raise subprocess.CalledProcessError(done.returncode, done.args)


def _archives(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Yield where each archive begins and ends; zeros may stand between them."""
    position = 0
    while found := _ANYTHING.search(data, position):
        start = found.start()
        if data[start : start + 6] in _CPIO:
            position = _end_of_cpio(data, start)
        elif data[start : start + 4] == _ZSTD:
            position = _end_of_zstd(data, start)
        else:
            raise ValueError(f"byte {start} begins neither a cpio archive nor one that is compressed with zstd")
        yield start, position


def _end_of_cpio(data: mmap.mmap, position: int) -> int:
    while True:
        header = data[position : position + _CPIO_HEADER]
        size, length = int(header[54:62], 16), int(header[94:102], 16)
        name = position + _CPIO_HEADER
        # Name and content are filled up to a multiple of four bytes.
        position = -(-(name + length) // 4) * 4
        position += -(-size // 4) * 4
        if data[name : name + length] == _TRAILER:
            return position


def _end_of_zstd(data: mmap.mmap, position: int) -> int:
    """Find the end of a frame by the lengths of its blocks (RFC 8878, section 3.1.1)."""
    descriptor = data[position + 4]
    single = descriptor >> 5 & 1
    position += 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    position += (single, 2, 4, 8)[descriptor >> 6]
    last = False
    while not last:
        header = int.from_bytes(data[position : position + 3], "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        position += 3 + (1 if kind == 1 else size)
    return position + (4 if descriptor >> 2 & 1 else 0)
