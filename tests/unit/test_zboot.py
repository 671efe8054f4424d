"""Kernels that decompress themselves are unwrapped, whatever they are compressed with; others are left as they are."""

from __future__ import annotations

import gzip
import lzma
import os
import struct
from types import ModuleType

import pytest

from bootc_live.base.errors import BootcLiveError, ImageError
from bootc_live.formats.pe import sections
from bootc_live.rootfs.boot_files.zboot import unwrap
from bootc_live.system.inflate import lz4, zstd
from tests.lib.compressing import program
from tests.unit.pe_files import pe_file

KERNEL = b"MZ kernel " + os.urandom(100_000) + b"compressible " * 100_000


def xz_alone(data: bytes) -> bytes:
    """As the program lzma makes it."""
    return lzma.compress(data, lzma.FORMAT_ALONE)


# As scripts/Makefile.lib of the kernel names and makes them.
COMPRESSED = {
    "gzip": gzip.compress,
    "zstd22": program("zstd", "-q", "-c"),
    "zstd": program("zstd", "-q", "-c"),
    "xzkern": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": xz_alone,
    "lz4": program("lz4", "-q", "-l", "-c"),
}


def zboot(payload: bytes, compression: str, offset: int = 4096) -> bytes:
    """A zboot image: the documented header, PE behind it, payload, length of what is in it, code to unpack it."""
    header = struct.pack("<2s2x4sII8x32sI", b"MZ", b"zimg", offset, len(payload), compression.encode(), 0x818223CD)
    # PE files have the offset of their header at 0x3c, which is right behind.
    data = bytearray(pe_file([(".text", bytes(offset + len(payload) + 8000))]))
    data[: len(header)] = header
    data[offset : offset + len(payload) + 4] = payload + struct.pack("<I", len(KERNEL))
    return bytes(data)


def unwrapped(data: bytes) -> bytes | None:
    """The kernel inside, None where there is none."""
    chunks = unwrap(lambda offset, length: data[offset : offset + length], len(data))
    return None if chunks is None else b"".join(chunks)


@pytest.mark.parametrize("compression", COMPRESSED)
def test_the_kernel_comes_out(compression: str) -> None:
    data = zboot(COMPRESSED[compression](KERNEL), compression)
    assert sections(lambda offset, length: data[offset : offset + length], len(data))
    assert unwrapped(data) == KERNEL


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MZ",
        KERNEL,
        gzip.compress(KERNEL),
        pe_file([(".setup", b"x"), (".text", b"bzImage")]),
        zboot(gzip.compress(KERNEL), "gzip").replace(b"MZ", b"ZM", 1),
    ],
)
def test_others_are_none(data: bytes) -> None:
    assert unwrapped(data) is None


@pytest.mark.parametrize(
    ("offset", "length"), [(4096, 0), (4096, 2**31), (2**31, 5), (0, 5), (2**32 - 1, 2**32 - 1), (40, 9)]
)
def test_a_payload_that_is_not_there(offset: int, length: int) -> None:
    data = bytearray(zboot(gzip.compress(KERNEL), "gzip"))
    data[8:16] = struct.pack("<II", offset, length)
    with pytest.raises(ImageError, match="is damaged"):
        unwrapped(bytes(data))


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("cut", [0.3, 0.99])
def test_a_payload_that_is_cut_short(compression: str, cut: float) -> None:
    payload = COMPRESSED[compression](KERNEL)
    with pytest.raises(ImageError, match=r"it is (damaged|cut short)"):
        unwrapped(zboot(payload[: int(len(payload) * cut)], compression))


# Those two have no checksum.
@pytest.mark.parametrize("compression", sorted(COMPRESSED.keys() - {"lz4", "lzma"}))
def test_a_payload_that_is_damaged(compression: str) -> None:
    payload = bytearray(COMPRESSED[compression](KERNEL))
    middle = len(payload) // 2
    payload[middle : middle + 1000] = bytes(1000)
    with pytest.raises(ImageError, match=r"it is (damaged|cut short)"):
        unwrapped(zboot(bytes(payload), compression))


def test_compression_that_nobody_knows() -> None:
    with pytest.raises(ImageError, match="is compressed with 'lzo', which cannot be decompressed here"):
        unwrapped(zboot(b"\x89LZO\0\r\n\x1a\n" + bytes(100), "lzo"))


@pytest.mark.parametrize(("compression", "module"), [("zstd", zstd), ("lz4", lz4)])
def test_a_library_that_is_missing(compression: str, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIBRARY", "lib.so.none")
    with pytest.raises(BootcLiveError, match=f"{compression} data cannot be decompressed without lib.so.none: "):
        unwrapped(zboot(COMPRESSED[compression](KERNEL), compression))
