"""Build the index layout: EROFS metadata that points into the layers' own tar streams.

Nothing is unpacked: the inflated layers are the data, and their digests have been checked. The merged tree is written
as EROFS inodes and directories in front of the layers, in the same sparse file, which a loop device makes a block
device.
"""

from __future__ import annotations

import os
from functools import partial

from bootc_live.base.errors import about
from bootc_live.config.model import Layout
from bootc_live.formats.erofs.structures import (
    BLOCK,
    BLOCK_BITS,
    CHUNK_BASED,
    FLAT_PLAIN,
    HOLE,
    INCOMPAT_CHUNKED,
    SUPER_OFFSET,
    Superblock,
)
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.layouts.built import BuiltRoot, Finishing, cannot_hold, mounted_image, unchanged
from bootc_live.rootfs.layouts.erofs.chunks import ChunkMap, MapBudget, chunk_map, node_chunk
from bootc_live.rootfs.layouts.erofs.writer import NO_ROOM, Body, Geometry, Room, write_tree
from bootc_live.rootfs.tree.data import Data
from bootc_live.rootfs.tree.merge import LayersRead, Warn, merge, unsaid
from bootc_live.rootfs.tree.node import Node, walk
from bootc_live.system.files import space_for, write_at

_PAGE = 4096
# Room for the metadata in front of the layers: a hole, which needs no memory.
METADATA_ROOM = 16 * 2**30


def index_root(
    image: VerifiedImage, finishing: Finishing = unchanged, read: LayersRead | None = None, warn: Warn = unsaid
) -> BuiltRoot:
    """Turn the data file of a verified image into an EROFS image, in place; ``finishing`` may change the merged tree.

    Raise ImageError for layers that cannot be used, RootfsError for what EROFS cannot hold, and OutOfMemoryError if the
    file system is full. See ``merge`` for ``read`` and ``warn``.
    """
    root = merge(image, read, warn)
    labelled = finishing(root, image)
    fd = os.open(image.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        with about(f"the file system's metadata of {image.resolved.source_text!r}"), space_for(fd):
            # Free what upper layers hide, and what is between files.
            nodes = list(walk(root))
            Data(fd).drop_garbage(nodes)
            # The loop device ends at whole sectors; a tar from some tools does not.
            os.ftruncate(fd, -(-os.fstat(fd).st_size // _PAGE) * _PAGE)
            metadata = write_metadata(nodes, fd, METADATA_ROOM, image.size)
    except ValueError as error:
        raise cannot_hold(image, error) from error
    finally:
        os.close(fd)
    mount = partial(mounted_image, image.path, BLOCK, None)
    return BuiltRoot(Layout.INDEX, mount, metadata, metadata + image.size, labelled=labelled)


_FIRST = SUPER_OFFSET + 128


class _TarBodies:
    """The files' data in the data file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.maps: dict[int, ChunkMap] = {}
        self._budget = MapBudget()

    def room(self, node: Node) -> Room:
        """Return the room for the map of a sparse file."""
        if node.extents is None:
            return NO_ROOM
        if id(node) not in self.maps:
            self.maps[id(node)] = self._budget.reserve(node.size, node_chunk(node))
        return Room(table=self.maps[id(node)].reserved * 4)

    def place(self, node: Node, free: int) -> int:
        """Fill the map of a sparse file; parts of the file may have to be copied."""
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


def write_metadata(nodes: list[Node], fd: int, limit: int, data_bytes: int) -> int:
    """Write superblock, inodes and directories into the first ``limit`` bytes of the data file.

    ``nodes`` are those of ``walk``, ``data_bytes`` is the size of the layers, which statfs(2) of the mount shows.
    Return the number of bytes written, a multiple of 4096; the same tree gives the same bytes. Raise ValueError that
    begins with the path of what Linux or EROFS cannot represent.
    """
    bodies = _TarBodies(fd)
    made = write_tree(nodes, fd, Geometry(BLOCK_BITS, _FIRST), bodies, limit)
    # Inodes begin behind the superblock, and are numbered from the block that it ends in.
    head = Superblock(
        BLOCK_BITS,
        made.root,
        made.inodes,
        (made.end + data_bytes) // BLOCK,
        _FIRST // BLOCK,
        INCOMPAT_CHUNKED if bodies.maps else 0,
    )
    write_at(fd, SUPER_OFFSET, head.packed())
    return made.end
