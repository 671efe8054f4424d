"""Encodings of EROFS that a round trip through our own reader does not show: those of the kernel's header."""

from __future__ import annotations

import os
import struct

import pytest

from bootc_live.formats.erofs.structures import (
    INODE_SIZE,
    Superblock,
    device_number,
    packed_inode,
    xattr_body,
    xattr_count,
)


def test_no_feature_that_old_kernels_lack() -> None:
    """The compatible ones may be ignored; of the others only chunks, and no checksum to be wrong."""
    found = Superblock(9, 36, 1, 1, 0).packed()
    assert struct.unpack_from("<II", found, 4) == (0, 2)


FIELDS = ["size", "union", "number", "uid", "gid", "mtime", "mtime_ns", "links"]


@pytest.mark.parametrize("field", ["union", "number", "uid", "gid", "mtime_ns", "links"])
def test_values_of_an_inode_have_32_bits(field: str) -> None:
    def packed(value: int) -> bytes:
        return packed_inode("file", 0, 0, 0o644, *(value if name == field else 0 for name in FIELDS))

    assert len(packed(2**32 - 1)) == INODE_SIZE
    for value in (2**32, -1):
        with pytest.raises(ValueError, match="does not fit into an inode"):
            packed(value)


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
