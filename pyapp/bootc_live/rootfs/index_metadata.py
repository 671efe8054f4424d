"""The metadata of an index: it stands in front of the layers, in the same file, and points into their tar streams."""

from __future__ import annotations

from bootc_live.rootfs.chunks import ChunkMap, MapBudget, chunk_map, node_chunk
from bootc_live.rootfs.erofs_format import (
    BLOCK,
    BLOCK_BITS,
    CHUNK_BASED,
    FLAT_PLAIN,
    HOLE,
    INCOMPAT_CHUNKED,
    SUPER_OFFSET,
    Summary,
)
from bootc_live.rootfs.erofs_writer import NO_ROOM, Body, Geometry, Room, write_at, write_tree
from bootc_live.rootfs.tree import Node

_FIRST = SUPER_OFFSET + 128


class _TarBodies:
    """File data as it lies in the data file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.maps: dict[int, ChunkMap] = {}
        self._budget = MapBudget()

    def room(self, node: Node) -> Room:
        """Make room for the map of a sparse file."""
        if node.extents is None:
            return NO_ROOM
        if id(node) not in self.maps:
            self.maps[id(node)] = self._budget.reserve(node.size, node_chunk(node))
        return Room(table=self.maps[id(node)].reserved * 4)

    def place(self, node: Node, free: int) -> int:
        """Fill the map of a sparse file; parts of it may have to be copied."""
        if node.extents is not None:
            return chunk_map(node, self.maps[id(node)], self._fd, free)
        if (node.offset + node.size) >> BLOCK_BITS >= HOLE:
            raise ValueError("has data beyond what EROFS can point at")
        return free

    def body(self, node: Node) -> Body:
        """Point at the tar member's data."""
        if node.extents is None:
            return Body(FLAT_PLAIN, node.offset >> BLOCK_BITS if node.size else 0)
        found = self.maps[id(node)]
        return Body(CHUNK_BASED, found.chunk_format, found.packed())


def write_metadata(root: Node, fd: int, limit: int, data_bytes: int) -> int:
    """Write superblock, inodes and directories into the first ``limit`` bytes of the data file.

    ``data_bytes`` is what the layers take; statfs(2) of the mount shows it.
    Gives the number of bytes written there, a multiple of 4096; the same tree
    gives the same bytes. Raises ValueError that begins with the path of what
    Linux or EROFS cannot represent.
    """
    bodies = _TarBodies(fd)
    made = write_tree(root, fd, Geometry(BLOCK_BITS, _FIRST), bodies, limit)
    # Inodes begin behind the superblock, and are counted from the block that it ends in.
    head = Summary(
        BLOCK_BITS,
        made.root,
        made.inodes,
        (made.end + data_bytes) // BLOCK,
        _FIRST // BLOCK,
        INCOMPAT_CHUNKED if bodies.maps else 0,
    )
    write_at(fd, SUPER_OFFSET, head.packed())
    return made.end
