"""Structures of the EROFS on-disk format (kernel: Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h).

Only the parts that are written here: extended inodes, flat and chunk-based data, inline extended attributes. Compressed
data is in compressed.py. An index has blocks of 512 bytes (Linux 6.4 and later), because the data of tar members begins
at multiples of 512.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

BLOCK_BITS = 9
BLOCK = 1 << BLOCK_BITS
SLOT = 32
SUPER_OFFSET = 1024
SUPER_SIZE = 128
INODE_SIZE = 64
FLAT_PLAIN, FLAT_INLINE, CHUNK_BASED = 0, 2, 4
HOLE = 0xFFFFFFFF

INCOMPAT_CHUNKED = 0x4

_MAGIC = 0xE0F5E1E2
_COMPAT_MTIME = 0x2
_SUPER = struct.Struct("<I4xIBxHQ12xII20x16sIH42x")
_INODE = struct.Struct("<HHHHQIIIIqII16x")
_DIRENT = struct.Struct("<QHBB")
_XATTR_HEAD = struct.Struct("<IB7x")
_XATTR_ENTRY = struct.Struct("<BBH")
# The head of attributes that other inodes do not share.
_XATTR_NONE = _XATTR_HEAD.pack(0, 0)
_PADS = tuple(map(bytes, range(4)))
_TOO_LARGE = "has an extended attribute that is too large: {}"
DIRENT_SIZE = _DIRENT.size
NAME_MAX = 255

TYPES = {
    "file": (stat.S_IFREG, 1),
    "dir": (stat.S_IFDIR, 2),
    "char": (stat.S_IFCHR, 3),
    "block": (stat.S_IFBLK, 4),
    "fifo": (stat.S_IFIFO, 5),
    "symlink": (stat.S_IFLNK, 7),
}
_PREFIXES = (
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
)


# Of the kernel's include/uapi/linux/limits.h.
_XATTR_NAME_MAX = 255
_XATTR_LIST_MAX = 65536


class Superblock(NamedTuple):
    """The superblock. ``meta_block`` is the block where inodes begin, ``root`` the slot of the root inode (16 bits)."""

    block_bits: int
    root: int
    inodes: int
    blocks: int
    meta_block: int
    incompat: int = 0
    algorithms: int = 0

    def packed(self) -> bytes:
        """Return the 128 bytes at offset 1024, with a null UUID and without a time."""
        return _SUPER.pack(
            _MAGIC,
            _COMPAT_MTIME,
            self.block_bits,
            self.root,
            self.inodes,
            self.blocks,
            self.meta_block,
            b"bootc-live",
            self.incompat,
            self.algorithms,
        )


def filesystem_blocks(superblock: bytes) -> int:
    """Return the number of blocks of a file system; raise ValueError if it has no superblock as it is written here."""
    if len(superblock) < _SUPER.size or _SUPER.unpack_from(superblock)[0] != _MAGIC:
        raise ValueError("has no superblock")
    blocks: int = _SUPER.unpack_from(superblock)[5]
    return blocks


def packed_inode(kind: str, layout: int, xattr_count: int, mode: int, *rest: int) -> bytes:
    """Return the 64 bytes of an extended inode.

    The rest is its size, a block address or device or chunk format, number, user, group, seconds and nanoseconds of its
    time, and number of links. Raise ValueError if a value does not fit.
    """
    try:
        return _INODE.pack(1 | layout << 1, xattr_count, TYPES[kind][0] | mode, 0, *rest)
    except struct.error as error:
        raise ValueError("does not fit into an inode") from error


def device_number(major: int, minor: int) -> int:
    """Encode a device as the kernel's new_encode_dev() does; raises ValueError beyond 12 and 20 bits."""
    if not 0 <= major < 1 << 12 or not 0 <= minor < 1 << 20:
        raise ValueError(f"is the device {major}:{minor}, which Linux cannot have")
    return (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12


def xattr_body(xattrs: Mapping[bytes, bytes]) -> bytes:
    """Return the extended attributes that follow an inode; empty without attributes.

    Omits attributes of namespaces that EROFS does not support. Raises ValueError for names or values that are
    invalid in Linux.
    """
    if not xattrs:
        return b""
    parts = [_XATTR_NONE]
    if sum(map(len, xattrs)) + len(xattrs) > _XATTR_LIST_MAX:
        raise ValueError(f"has {len(xattrs)} extended attributes, whose names are more than Linux can list")
    for name in sorted(xattrs):
        index, suffix = _prefix(name)
        value = xattrs[name]
        if len(value) > 0xFFFF:
            raise ValueError(_TOO_LARGE.format(name.decode(errors="backslashreplace")))
        if index:
            parts += _XATTR_ENTRY.pack(len(suffix), index, len(value)), suffix, value
            parts.append(_PADS[-(len(suffix) + len(value)) % 4])
    body = b"".join(parts) if len(parts) > 1 else b""
    if xattr_count(body) > 0xFFFF:
        raise ValueError(f"has {len(body)} bytes of extended attributes, more than an inode can have")
    return body


def xattr_count(body: bytes) -> int:
    """Return i_xattr_icount of a body: its length in 4-byte units, with the head as one."""
    return (len(body) - _XATTR_HEAD.size) // 4 + 1 if body else 0


def dirent_block(entries: list[tuple[bytes, int, str]]) -> bytes:
    """Return a directory block without padding, for (name, nid, kind) in byte order of names; see ``check_dirent``."""
    offset = len(entries) * DIRENT_SIZE
    heads, names = [], []
    for name, nid, kind in entries:
        heads.append(_DIRENT.pack(nid, offset, TYPES[kind][1], 0))
        names.append(name)
        offset += len(name)
    return b"".join(heads) + b"".join(names)


def check_dirent(name: bytes) -> None:
    """Raise ValueError for an invalid name of a directory entry: the kernel allows 255 bytes without NUL and slash."""
    if not 0 < len(name) <= NAME_MAX or b"\0" in name or b"/" in name:
        raise ValueError(f"has a name that no directory can hold: {name[:300]!r}")


# Few names are different.
@lru_cache(maxsize=1024)
def _prefix(name: bytes) -> tuple[int, bytes]:
    """Return the number of a name's beginning, and the rest; 0 if EROFS does not support it. Raise ValueError."""
    if b"\0" in name:
        raise ValueError(f"has an extended attribute with a NUL byte in its name: {name[:300]!r}")
    if len(name) > _XATTR_NAME_MAX:
        raise ValueError(_TOO_LARGE.format(name.decode(errors="backslashreplace")))
    for prefix, index in _PREFIXES:
        # Some are complete names, those with a dot at the end are prefixes.
        if name.startswith(prefix) and prefix.endswith(b".") == (len(name) > len(prefix)):
            return index, name[len(prefix) :]
    return 0, b""
