"""Sizes and encodings of the EROFS structures, against the kernel's header."""

from __future__ import annotations

import os
import struct

import pytest

from bootc_live.formats.erofs import structures as erofs_format
from bootc_live.formats.erofs.structures import (
    BLOCK,
    CHUNK_BASED,
    DIRENT_SIZE,
    FLAT_INLINE,
    FLAT_PLAIN,
    INCOMPAT_CHUNKED,
    INODE_SIZE,
    TYPES,
    Inode,
    Superblock,
    device_number,
    dirent_block,
    xattr_body,
    xattr_count,
)


def inode(kind: str, layout: int) -> bytes:
    return Inode(kind, layout, 0, 0o777, 0, 0, 1, 0, 0, 0, 0, 1).packed()


def test_sizes() -> None:
    assert (BLOCK, INODE_SIZE, DIRENT_SIZE) == (512, 64, 12)
    assert len(Superblock(9, 36, 1, 8, 0).packed()) == 128
    assert len(inode("file", FLAT_PLAIN)) == INODE_SIZE


def test_superblock_fields() -> None:
    found = Superblock(9, 36, 1000, 5000, 7, INCOMPAT_CHUNKED).packed()
    assert found[:4] == b"\xe2\xe1\xf5\xe0"
    assert found[12] == 9
    assert struct.unpack_from("<H", found, 14) == (36,)
    assert struct.unpack_from("<Q", found, 16) == (1000,)
    assert struct.unpack_from("<II", found, 36) == (5000, 7)
    assert found[48:64] == bytes(16)
    assert found[64:80] == b"bootc-live".ljust(16, b"\0")
    assert struct.unpack_from("<I", found, 80) == (4,)
    assert struct.unpack_from("<I", Superblock(9, 36, 1, 1, 0).packed(), 80) == (0,)


def test_no_feature_that_old_kernels_lack() -> None:
    """The compatible ones may be ignored; of the others only chunks, and no checksum to be wrong."""
    found = Superblock(9, 36, 1, 1, 0).packed()
    assert struct.unpack_from("<II", found, 4) == (0, 2)


def test_inode_fields() -> None:
    found = Inode("file", CHUNK_BASED, 5, 0o4755, 2**40, 0x1234, 99, 70_000, 80_000, -5, 999_999_999, 3).packed()
    assert struct.unpack("<HHHHQIIIIqII16x", found) == (
        1 | 4 << 1, 5, 0o104755, 0, 2**40, 0x1234, 99, 70_000, 80_000, -5, 999_999_999, 3
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "mode", "number"),
    [
        ("file", 0o100000, 1),
        ("dir", 0o040000, 2),
        ("char", 0o020000, 3),
        ("block", 0o060000, 4),
        ("fifo", 0o010000, 5),
        ("symlink", 0o120000, 7),
    ],
)
def test_types(kind: str, mode: int, number: int) -> None:
    assert TYPES[kind] == (mode, number)
    found = inode(kind, FLAT_INLINE)
    assert struct.unpack_from("<HHH", found) == (1 | 2 << 1, 0, mode | 0o777)


@pytest.mark.parametrize(
    "device", [(0, 0), (1, 3), (5, 1), (8, 255), (8, 256), (259, 65_535), (4095, 1_048_575), (0, 1), (10, 4_096)]
)
def test_device_numbers(device: tuple[int, int]) -> None:
    """new_encode_dev(): minor 0–7, major 8–19, the rest of minor above."""
    value = device_number(*device)
    assert value < 2**32
    assert ((value >> 8) & 0xFFF, (value & 0xFF) | ((value >> 12) & 0xFFF00)) == device


def test_small_device_numbers_are_as_in_stat() -> None:
    for device in ((1, 3), (8, 255), (254, 7)):
        assert device_number(*device) == os.makedev(*device)


@pytest.mark.parametrize("device", [(4096, 0), (0, 1_048_576), (-1, 0), (0, -1), (2**40, 2**40)])
def test_impossible_devices(device: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="which Linux cannot have"):
        device_number(*device)


def test_no_xattrs() -> None:
    assert xattr_body({}) == b""
    assert xattr_count(b"") == 0


@pytest.mark.parametrize(
    ("name", "index", "suffix"),
    [
        (b"user.a", 1, b"a"),
        (b"user.a.b", 1, b"a.b"),
        (b"trusted.x", 4, b"x"),
        (b"security.capability", 6, b"capability"),
        (b"security.selinux", 6, b"selinux"),
        (b"system.posix_acl_access", 2, b""),
        (b"system.posix_acl_default", 3, b""),
    ],
)
@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 20, 65_535])
def test_one_xattr(name: bytes, index: int, suffix: bytes, length: int) -> None:
    body = xattr_body({name: b"v" * length})
    assert body[:12] == bytes(12)
    assert struct.unpack_from("<BBH", body, 12) == (len(suffix), index, length)
    assert body[16:].rstrip(b"\0") == suffix + b"v" * length
    assert len(body) % 4 == 0
    assert 0 <= len(body) - (16 + len(suffix) + length) < 4
    assert xattr_count(body) == (len(body) - 12) // 4 + 1


def test_xattrs_are_sorted() -> None:
    assert xattr_body({b"user.b": b"2", b"user.a": b"1"}) == xattr_body({b"user.a": b"1", b"user.b": b"2"})


@pytest.mark.parametrize(
    "name", [b"system.nfs4_acl", b"com.apple.x", b"user", b"user.", b"", b"btrfs.compression", b"User.a"]
)
def test_foreign_name_spaces_are_left_out(name: bytes) -> None:
    assert xattr_body({name: b"x"}) == b""
    assert xattr_body({name: b"x", b"user.a": b"1"}) == xattr_body({b"user.a": b"1"})


def test_limits_of_xattrs() -> None:
    assert xattr_body({b"user." + b"n" * 250: b""})
    with pytest.raises(ValueError, match=r"too large: user\.n"):
        xattr_body({b"user." + b"n" * 251: b""})
    with pytest.raises(ValueError, match=r"too large: user\.v"):
        xattr_body({b"user.v": bytes(65_536)})
    with pytest.raises(ValueError, match="more than an inode can have"):
        xattr_body({b"user.%d" % number: bytes(60_000) for number in range(5)})
    with pytest.raises(ValueError, match="NUL byte in its name"):
        xattr_body({b"user.a\0b": b""})
    with pytest.raises(ValueError, match="more than Linux can list"):
        xattr_body({b"user.%0100d" % number: b"" for number in range(700)})
    almost = xattr_body({b"user.%d" % number: bytes(65_000) for number in range(4)})
    assert xattr_count(almost) <= 0xFFFF


def test_dirent_block() -> None:
    block = dirent_block([(b".", 36, "dir"), (b"..", 36, "dir"), (b"file", 2**40, "file")])
    assert struct.unpack_from("<QHBB", block, 0) == (36, 36, 2, 0)
    assert struct.unpack_from("<QHBB", block, 12) == (36, 37, 2, 0)
    assert struct.unpack_from("<QHBB", block, 24) == (2**40, 39, 1, 0)
    assert block[36:] == b"...file"


def test_holes_are_the_null_address() -> None:
    assert erofs_format.HOLE == 2**32 - 1
