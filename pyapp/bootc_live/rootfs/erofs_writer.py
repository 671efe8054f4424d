"""Write the EROFS metadata of a tree whose file data already lies in the data file."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bootc_live.rootfs.chunks import ChunkMap, chunk_map
from bootc_live.rootfs.erofs_format import (
    BLOCK,
    BLOCK_BITS,
    CHUNK_BASED,
    DIRENT_SIZE,
    FLAT_INLINE,
    FLAT_PLAIN,
    INODE_SIZE,
    SLOT,
    SUPER_OFFSET,
    Inode,
    device_number,
    dirent_block,
    superblock,
    xattr_body,
    xattr_count,
)
from bootc_live.rootfs.tree import Node, path_of, walk

_PAGE = 4096
_FIRST = SUPER_OFFSET + 128
# A longer link would not find a place behind every length of attributes without crossing a block.
_INLINE_MAX = BLOCK - INODE_SIZE


@dataclass(eq=False, slots=True)
class _Plan:
    """Where an inode's parts go: byte offset of the inode, block of its own data."""

    node: Node
    offset: int
    end: int
    xattrs: bytes
    blocks: list[list[bytes]]
    chunks: ChunkMap | None
    parent: _Plan | None = None
    links: int = 0
    data_block: int = 0


def write_metadata(root: Node, fd: int, limit: int, data_bytes: int) -> int:
    """Write superblock, inodes and directories into the first ``limit`` bytes of the data file.

    ``data_bytes`` is what the layers take; statfs(2) of the mount shows it.
    Gives the number of bytes written there, a multiple of 4096; the same tree
    gives the same bytes. Raises ValueError that begins with the path of what
    Linux or EROFS cannot represent.
    """
    plans, node = [], root
    try:
        end = _FIRST
        for node in walk(root):
            plans.append(_plan(node, end))
            end = plans[-1].end
        block = _place_data(plans, -(-end // BLOCK))
        extra = block * BLOCK
        for plan in plans:
            node = plan.node
            if node.extents is not None:
                plan.chunks, extra = chunk_map(node, fd, extra)
    except ValueError as error:
        raise ValueError(f"{path_of(root, node)} {error}") from error
    if extra > limit:
        raise ValueError(f"it needs {extra} bytes of metadata, {limit} is the most there can be")
    image = bytearray(block * BLOCK)
    relatives = _relate(plans)
    for number, plan in enumerate(plans, 1):
        _emit(image, plan, number, relatives)
    used = (extra + data_bytes) // BLOCK
    chunked = any(plan.chunks for plan in plans)
    head = superblock(_FIRST // SLOT, len(plans), used, 0, chunked=chunked)
    image[SUPER_OFFSET : SUPER_OFFSET + len(head)] = head
    _write(fd, image)
    return extra


def _plan(node: Node, after: int) -> _Plan:
    """Find the place of an inode behind the offset ``after``, with what follows it."""
    body = xattr_body(node.xattrs)
    blocks: list[list[bytes]] = []
    tail = 0
    chunks: ChunkMap | None = None
    if node.children is not None:
        blocks = _split(sorted([*node.children, b".", b".."]))
    elif node.kind == "symlink" and node.size <= _INLINE_MAX:
        tail = node.size
    elif node.extents is not None:
        chunks = ChunkMap.reserve(node)
    elif node.kind in ("char", "block"):
        # Refused here, while the inode can still be named.
        device_number(*node.device)
    offset = _place(after, INODE_SIZE + len(body), tail)
    end = offset + INODE_SIZE + len(body) + (chunks.reserved * 4 if chunks else tail)
    return _Plan(node, offset, end, body, blocks, chunks)


def _place_data(plans: list[_Plan], block: int) -> int:
    """Place directories and long link targets from a block on; give the first free block, at a page's start."""
    for plan in plans:
        if plan.blocks:
            plan.data_block = block
            block += len(plan.blocks)
        elif plan.node.kind == "symlink" and not _inline(plan):
            plan.data_block = block
            block += -(-plan.node.size // BLOCK)
    return -(-block * BLOCK // _PAGE) * _PAGE // BLOCK


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


def _place(offset: int, head: int, tail: int) -> int:
    """Give the next place where an inode does not cross a block and neither does its inline tail."""
    offset = -(-offset // SLOT) * SLOT
    while offset % BLOCK > BLOCK - INODE_SIZE or (tail and (offset + head) % BLOCK + tail > BLOCK):
        offset += SLOT
    return offset


def _split(names: list[bytes]) -> list[list[bytes]]:
    blocks: list[list[bytes]] = []
    used = BLOCK
    for name in names:
        need = DIRENT_SIZE + len(name)
        if used + need > BLOCK:
            blocks.append([])
            used = 0
        blocks[-1].append(name)
        used += need
    return blocks


def _inline(plan: _Plan) -> bool:
    return plan.node.size <= _INLINE_MAX


def _emit(image: bytearray, plan: _Plan, number: int, places: dict[int, _Plan]) -> None:
    node = plan.node
    layout, size, union, after = FLAT_PLAIN, node.size, 0, b""
    if plan.blocks:
        size = _emit_directory(image, plan, places)
        union = plan.data_block
    elif node.kind == "symlink":
        if _inline(plan):
            layout, after = FLAT_INLINE, node.link
        else:
            union = plan.data_block
            start = union * BLOCK
            image[start : start + node.size] = node.link
    elif plan.chunks is not None:
        layout, union, after = CHUNK_BASED, plan.chunks.chunk_format, plan.chunks.packed()
    elif node.kind == "file":
        union = node.offset >> BLOCK_BITS if node.size else 0
    elif node.kind in ("char", "block"):
        union = device_number(*node.device)
    head = Inode(
        node.kind,
        layout,
        xattr_count(plan.xattrs),
        node.mode,
        size,
        union,
        number,
        node.uid,
        node.gid,
        node.mtime,
        node.mtime_ns,
        plan.links,
    ).packed()
    whole = head + plan.xattrs + after
    image[plan.offset : plan.offset + len(whole)] = whole


def _emit_directory(image: bytearray, plan: _Plan, places: dict[int, _Plan]) -> int:
    children = plan.node.directory
    size = 0
    for index, names in enumerate(plan.blocks):
        entries = []
        for name in names:
            if name == b".":
                entries.append((name, plan.offset // SLOT, "dir"))
            elif name == b"..":
                entries.append((name, (plan.parent or plan).offset // SLOT, "dir"))
            else:
                node = children[name].node
                entries.append((name, places[id(node)].offset // SLOT, node.kind))
        block = dirent_block(entries)
        start = (plan.data_block + index) * BLOCK
        image[start : start + len(block)] = block
        size = index * BLOCK + len(block)
    return size


def _write(fd: int, image: bytearray) -> None:
    view, offset = memoryview(image), 0
    while offset < len(view):
        offset += os.pwrite(fd, view[offset:], offset)
