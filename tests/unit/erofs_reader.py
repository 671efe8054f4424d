"""Reads an EROFS image back into plain data: an independent reading of the format, for what the writer writes.

After the kernel's Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h: extended inodes, flat and chunk-based
data, inline tails and inline extended attributes; compressed files with full indexes, see z_reader.py.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass, field

from tests.unit.z_reader import Compressed, configurations

SUPER = 1024
PREFIXES = {1: b"user.", 2: b"system.posix_acl_access", 3: b"system.posix_acl_default", 4: b"trusted.", 6: b"security."}
FILE_TYPES = {
    1: stat.S_IFREG,
    2: stat.S_IFDIR,
    3: stat.S_IFCHR,
    4: stat.S_IFBLK,
    5: stat.S_IFIFO,
    7: stat.S_IFLNK,
}
HOLE = 0xFFFFFFFF


@dataclass
class Found:
    """One inode as the image has it."""

    nid: int
    mode: int
    uid: int
    gid: int
    mtime: int
    mtime_ns: int
    links: int
    size: int
    number: int
    device: int = 0
    data: bytes = b""
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    layout: int = 0
    compressed: Compressed | None = None


class Image:
    """An image in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        fields = struct.unpack_from("<IIIBBHQQIIII16s16sI", data, SUPER)
        assert fields[0] == 0xE0F5E1E2, "no EROFS superblock"
        assert fields[4] == 0, "the superblock has extension slots"
        self.block_bits = fields[3]
        self.root_nid, self.inodes, self.blocks, self.meta_block = fields[5], fields[6], fields[9], fields[10]
        self.name = fields[13].rstrip(b"\0")
        self.incompatible = fields[14]
        self.block = 1 << self.block_bits
        (self.algorithms,) = struct.unpack_from("<H", data, SUPER + 84)
        self.settings = configurations(data, SUPER + 128, self.algorithms) if self.algorithms else {}
        # The blocks that files take, by inode: (first, number of them).
        self.taken: dict[int, list[tuple[int, int]]] = {}

    def inode(self, nid: int) -> Found:
        """The inode with its data and attributes."""
        at = self.meta_block * self.block + nid * 32
        form, xattr_count, mode, _, size, union, number, uid, gid, mtime, mtime_ns, links = struct.unpack_from(
            "<HHHHQIIIIqII", self.data, at
        )
        assert form & 1, "not an extended inode"
        assert at % self.block + 64 <= self.block, "an inode crosses a block"
        found = Found(nid, mode, uid, gid, mtime, mtime_ns, links, size, number, layout=form >> 1 & 7)
        xattr_size = 12 + 4 * (xattr_count - 1) if xattr_count else 0
        after = at + 64 + xattr_size
        found.xattrs = self._xattrs(at + 64, after)
        kind = stat.S_IFMT(mode)
        if kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO):
            found.device = union
        else:
            found.data = self._content(found, union, after)
        return found

    def _content(self, found: Found, union: int, after: int) -> bytes:
        layout, size, taken = found.layout, found.size, self.taken.setdefault(found.nid, [])
        if layout == 0:
            taken[:] = [(union, -(-size // self.block))] if size else []
            start = union * self.block
            assert start + size <= len(self.data), "data beyond the end of the image"
            return self.data[start : start + size]
        if layout == 1:
            assert self.block == 4096, "compressed files need blocks of a page"
            found.compressed = Compressed(self.data, after, size, self.algorithms)
            taken[:] = found.compressed.blocks()
            assert union == sum(count for _, count in taken), "the number of compressed blocks is wrong"
            return found.compressed.content()
        if layout == 2:
            whole, tail = divmod(size, self.block)
            assert after % self.block + tail <= self.block, "an inline tail crosses a block"
            taken[:] = [(union, whole)] if whole else []
            return self.data[union * self.block : (union + whole) * self.block] + self.data[after : after + tail]
        assert layout == 4, f"layout {layout}"
        assert self.incompatible & 4, "chunks without the flag for them"
        assert not union & 0x20, "chunk indexes instead of a block map"
        step = self.block << (union & 31)
        taken.clear()
        content = bytearray()
        for address in struct.unpack_from(f"<{-(-size // step)}I", self.data, -(-after // 4) * 4):
            start = address * self.block
            if address != HOLE:
                # The last may end with the file.
                taken.append((address, -(-min(step, size - len(content)) // self.block)))
            content += bytes(step) if address == HOLE else self.data[start : start + step].ljust(step, b"\0")
        return bytes(content[:size])

    def _xattrs(self, at: int, end: int) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        if at == end:
            return found
        _, shared = struct.unpack_from("<IB", self.data, at)
        assert shared == 0
        at += 12
        while at < end:
            length, prefix, value_size = struct.unpack_from("<BBH", self.data, at)
            name = PREFIXES[prefix] + self.data[at + 4 : at + 4 + length]
            found[name] = self.data[at + 4 + length : at + 4 + length + value_size]
            at += -(-(4 + length + value_size) // 4) * 4
        assert at == end, "attributes do not fill their place"
        return found

    def entries(self, directory: Found) -> list[tuple[bytes, int, int]]:
        """(name, nid, file type) of a directory in its order, blocks checked as the kernel relies on them."""
        found: list[tuple[bytes, int, int]] = []
        for start in range(0, directory.size, self.block):
            block = directory.data[start : start + self.block]
            (first,) = struct.unpack_from("<8xH", block)
            heads = [struct.unpack_from("<QHB", block, at) for at in range(0, first, 12)]
            ends = [offset for _, offset, _ in heads[1:]] + [len(block)]
            for (nid, offset, kind), end in zip(heads, ends, strict=True):
                found.append((block[offset:end].partition(b"\0")[0], nid, kind))
        names = [name for name, _, _ in found]
        assert names == sorted(set(names)), "names are not in order"
        return found

    def tree(self) -> dict[bytes, Found]:
        """Every path below the root, and b"" for the root."""
        found: dict[bytes, Found] = {}
        todo = [(b"", self.root_nid, self.root_nid)]
        while todo:
            path, nid, parent = todo.pop()
            node = self.inode(nid)
            found[path] = node
            if not stat.S_ISDIR(node.mode):
                continue
            for name, child, kind in self.entries(node):
                if name in (b".", b".."):
                    assert child == (nid if name == b"." else parent), f"{name!r} of {path!r} leads astray"
                    assert kind == 2
                    continue
                todo.append((path + b"/" + name if path else name, child, nid))
                assert FILE_TYPES[kind] == stat.S_IFMT(self.inode(child).mode), path
        return found
