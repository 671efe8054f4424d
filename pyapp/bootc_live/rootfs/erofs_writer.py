"""Write the EROFS metadata of a tree: inodes, directories, and what stands behind inodes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from bootc_live.rootfs.erofs_format import (
    DIRENT_SIZE,
    FLAT_INLINE,
    FLAT_PLAIN,
    INODE_SIZE,
    SLOT,
    Inode,
    device_number,
    dirent_block,
    xattr_body,
    xattr_count,
)
from bootc_live.rootfs.tree import Node, path_of, walk

_PAGE = 4096


class Room(NamedTuple):
    """What stands behind an inode: a table at a multiple of ``align``, then bytes that no block's end may divide."""

    table: int = 0
    inline: int = 0
    align: int = 4


class Body(NamedTuple):
    """What an inode says of a file's data: layout, the union of that, and the bytes there is room for behind it."""

    layout: int
    union: int
    behind: bytes = b""


class FileBodies(Protocol):
    """Where the data of regular files lies; called for each file in turn, in the order of the tree."""

    def room(self, node: Node) -> Room:
        """Tell what room a file needs behind its inode; raises ValueError that follows the file's name."""

    def place(self, node: Node, free: int) -> int:
        """Make what needs the first free byte behind all inodes; gives the next free one. Raises ValueError."""

    def body(self, node: Node) -> Body:
        """Give what is recorded, as long as the room that was asked for."""


@dataclass(frozen=True)
class Geometry:
    """Bits of a block, and the byte where inodes may begin; ``inline`` lets the ends of directories stand behind them.

    Inodes are numbered from the beginning of the block that ``begin`` is in.
    """

    block_bits: int
    begin: int
    inline: bool = False

    @property
    def block(self) -> int:
        """Bytes of a block."""
        return 1 << self.block_bits

    @property
    def inline_max(self) -> int:
        """The longest end that has a place behind every length of attributes without crossing a block."""
        return self.block - INODE_SIZE

    @property
    def origin(self) -> int:
        """Where inodes are counted from, in bytes."""
        return self.begin // self.block * self.block

    def slot(self, offset: int) -> int:
        """Give the number of the inode at an offset."""
        return (offset - self.origin) // SLOT


class Metadata(NamedTuple):
    """What was written: bytes from the origin on, number of inodes, the root's number, the first free byte behind."""

    image: bytearray
    inodes: int
    root: int
    end: int


@dataclass(eq=False, slots=True)
class _Plan:
    """Where an inode's parts go: byte offset of the inode, block of its own data."""

    node: Node
    offset: int
    end: int
    xattrs: bytes
    room: Room
    blocks: list[list[bytes]]
    parent: _Plan | None = None
    links: int = 0
    data_block: int = 0


def make_metadata(root: Node, geometry: Geometry, bodies: FileBodies) -> Metadata:
    """Lay a tree's inodes and directories out, and give their bytes; the same tree gives the same bytes.

    Raises ValueError that begins with the path of what Linux or EROFS cannot represent.
    """
    plans, node = [], root
    writer = _Writer(geometry, bodies)
    try:
        end = geometry.begin
        for node in walk(root):
            plans.append(writer.plan(node, end))
            end = plans[-1].end
        free = writer.place_data(plans, -(-end // geometry.block))
        end = free
        for plan in plans:
            node = plan.node
            if node.kind == "file":
                end = bodies.place(node, end)
    except ValueError as error:
        raise ValueError(f"{path_of(root, node)} {error}") from error
    relatives = _relate(plans)
    image = bytearray(free - geometry.origin)
    for number, plan in enumerate(plans, 1):
        writer.emit(image, plan, number, relatives)
    return Metadata(image, len(plans), geometry.slot(plans[0].offset), end)


class _Writer:
    def __init__(self, geometry: Geometry, bodies: FileBodies) -> None:
        self._geometry = geometry
        self._block = geometry.block
        self._bodies = bodies

    def plan(self, node: Node, after: int) -> _Plan:
        """Find the place of an inode behind the offset ``after``, with what follows it."""
        body = xattr_body(node.xattrs)
        blocks: list[list[bytes]] = []
        room = Room()
        if node.children is not None:
            blocks = self._split(sorted([*node.children, b".", b".."]))
            tail = _length(blocks[-1])
            if self._geometry.inline and tail <= self._geometry.inline_max // 2:
                room = Room(inline=tail)
        elif node.kind == "symlink" and node.size <= self._geometry.inline_max:
            room = Room(inline=node.size)
        elif node.kind == "file":
            room = self._bodies.room(node)
        elif node.kind in ("char", "block"):
            # Refused here, while the inode can still be named.
            device_number(*node.device)
        head = _aligned(INODE_SIZE + len(body), room.align) + room.table
        offset = self._place(after, head, room.inline)
        return _Plan(node, offset, offset + head + room.inline, body, room, blocks)

    def place_data(self, plans: list[_Plan], block: int) -> int:
        """Place directories and long link targets from a block on; give the first free byte, at a page's start."""
        for plan in plans:
            if plan.blocks:
                plan.data_block = block
                block += len(plan.blocks) - (1 if plan.room.inline else 0)
            elif plan.node.kind == "symlink" and not plan.room.inline:
                plan.data_block = block
                block += -(-plan.node.size // self._block)
        return _aligned(block * self._block, _PAGE)

    def _place(self, offset: int, head: int, tail: int) -> int:
        """Give the next place where an inode does not cross a block and neither does its inline tail."""
        block = self._block
        offset = _aligned(offset, SLOT)
        while offset % block > block - INODE_SIZE or (tail and (offset + head) % block + tail > block):
            offset += SLOT
        return offset

    def _split(self, names: list[bytes]) -> list[list[bytes]]:
        blocks: list[list[bytes]] = []
        used = self._block
        for name in names:
            need = DIRENT_SIZE + len(name)
            if used + need > self._block:
                blocks.append([])
                used = 0
            blocks[-1].append(name)
            used += need
        return blocks

    def emit(self, image: bytearray, plan: _Plan, number: int, places: dict[int, _Plan]) -> None:
        """Put an inode, and what is its own, into the image."""
        node = plan.node
        body, size = Body(FLAT_PLAIN, 0), node.size
        if plan.blocks:
            body, size = self._directory(image, plan, places)
        elif node.kind == "symlink":
            if plan.room.inline:
                body = Body(FLAT_INLINE, 0, node.link)
            else:
                body = Body(FLAT_PLAIN, plan.data_block)
                self._put(image, plan.data_block * self._block, node.link)
        elif node.kind == "file":
            body = self._bodies.body(node)
        elif node.kind in ("char", "block"):
            body = Body(FLAT_PLAIN, device_number(*node.device))
        head = Inode(
            node.kind,
            body.layout,
            xattr_count(plan.xattrs),
            node.mode,
            size,
            body.union,
            number,
            node.uid,
            node.gid,
            node.mtime,
            node.mtime_ns,
            plan.links,
        ).packed()
        before = head + plan.xattrs
        self._put(image, plan.offset, before.ljust(_aligned(len(before), plan.room.align), b"\0") + body.behind)

    def _put(self, image: bytearray, offset: int, data: bytes) -> None:
        start = offset - self._geometry.origin
        image[start : start + len(data)] = data

    def _directory(self, image: bytearray, plan: _Plan, places: dict[int, _Plan]) -> tuple[Body, int]:
        children = plan.node.directory
        size, last = 0, b""
        for index, names in enumerate(plan.blocks):
            entries = []
            for name in names:
                if name == b".":
                    place, kind = plan, "dir"
                elif name == b"..":
                    place, kind = plan.parent or plan, "dir"
                else:
                    node = children[name].node
                    place, kind = places[id(node)], node.kind
                entries.append((name, self._geometry.slot(place.offset), kind))
            last = dirent_block(entries)
            size = index * self._block + len(last)
            if index + 1 < len(plan.blocks) or not plan.room.inline:
                self._put(image, (plan.data_block + index) * self._block, last)
        if plan.room.inline:
            return Body(FLAT_INLINE, plan.data_block, last), size
        return Body(FLAT_PLAIN, plan.data_block), size


def _length(names: list[bytes]) -> int:
    return sum(DIRENT_SIZE + len(name) for name in names)


def _aligned(offset: int, unit: int) -> int:
    return -(-offset // unit) * unit


def _relate(plans: list[_Plan]) -> dict[int, _Plan]:
    """Count links and find parents; gives the plans by the identity of their nodes."""
    places = {id(plan.node): plan for plan in plans}
    plans[0].parent, plans[0].links = plans[0], 1
    for plan in plans:
        if plan.node.children is None:
            continue
        plan.links += 1
        for entry in plan.node.children.values():
            child = places[id(entry.node)]
            child.links += 1
            if child.node.children is not None:
                child.parent = plan
                plan.links += 1
    return places


def write_at(fd: int, offset: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of ``data`` at an offset of a file; raises OSError."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
