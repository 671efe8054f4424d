"""Write the metadata of a root whose files' contents are objects: an EROFS image for an overlay above it.

overlayfs finds the content of a file by two attributes: its place below the objects, and the digest that it must have
(kernel: Documentation/filesystems/overlayfs.rst, "Metadata only copy up" and "fs-verity support"). The objects are
those of mkcomposefs 1.0.8, and an overlay of its image shows the same tree, but the bytes of the images differ, and so
do their digests: mkcomposefs numbers inodes by breadth, shares attributes between them, adds filters of their names and
256 whiteouts for kernels without data-only layers, and knows no hard links of a directory. An image here ends with a
list of its objects, and those of the recipes of its layers. It is in the file so that the digest covers it: what may be
removed depends on it, and which recipes are right.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from bootc_live.formats.erofs.structures import (
    CHUNK_BASED,
    FLAT_INLINE,
    FLAT_PLAIN,
    HOLE,
    INCOMPAT_CHUNKED,
    SUPER_OFFSET,
    SUPER_SIZE,
    Superblock,
    filesystem_blocks,
)
from bootc_live.formats.fsverity import DIGITS, metacopy
from bootc_live.rootfs.layouts.erofs.writer import METADATA_MOST, NO_ROOM, Body, Geometry, Room, write_tree
from bootc_live.rootfs.tree.node import Node, walk
from bootc_live.system.files import write_at

# Of every inode by its identity: the digest of the object that has the content, or the content itself.
Contents = Mapping[int, str | bytes]

BLOCK_BITS: Final = 12
BLOCK: Final = 1 << BLOCK_BITS
# What is so small is in the image, where the attributes of an object would take as much room: the image of a Debian
# server is no larger than with 0, and has a tenth fewer objects. With 1024, it is a third larger. composefs has 64.
INLINE_MOST: Final = 256

# No object: nothing has this digest.
_END_OF_OBJECTS: Final = "0" * DIGITS
_FIRST: Final = SUPER_OFFSET + SUPER_SIZE
# Chunks reach up to 2^31 blocks.
_MOST_BITS: Final = 31
_HOLE: Final = struct.pack("<I", HOLE)
_RAW: Final = DIGITS // 2
_OVERLAY: Final = b"trusted.overlay."
# Who mounts an overlay of directories in the root, as containers do, finds whiteouts by these attributes of files and
# their directories, whichever name space it uses: through the root's own overlay, escaped ones have lost the escape
# (Linux 6.7 and later).
_WHITEOUT: Final = {b"trusted.overlay.overlay.whiteout": b"", b"user.overlay.whiteout": b""}
_HAS_WHITEOUTS: Final = {b"trusted.overlay.overlay.opaque": b"x", b"user.overlay.opaque": b"x"}


def write_image(root: Node, contents: Contents, fd: int, recipes: Collection[str] = ()) -> set[str]:
    """Write the image of a tree to an empty file, and return the objects that it lists, with the recipes of its layers.

    The same arguments give the same bytes. Raise OSError, and ValueError that begins with the path of what Linux or
    EROFS cannot represent.
    """
    nodes = list(walk(root))
    with _described(nodes, contents) as objects:
        made = write_tree(nodes, fd, Geometry(BLOCK_BITS, _FIRST, inline=True), _Bodies(contents), METADATA_MOST)
    size = -(-made.end // BLOCK) * BLOCK
    head = Superblock(BLOCK_BITS, made.root, made.inodes, size >> BLOCK_BITS, 0, INCOMPAT_CHUNKED if objects else 0)
    write_at(fd, SUPER_OFFSET, head.packed())
    os.ftruncate(fd, size)
    listed = [*sorted(objects), _END_OF_OBJECTS, *sorted(set(recipes))]
    write_at(fd, size, b"".join(map(bytes.fromhex, listed)))
    return objects.union(recipes)


def filesystem_size(fd: int) -> int:
    """Return how many bytes of an image its file system has; a list of objects follows. Raise ValueError, OSError."""
    return filesystem_blocks(os.pread(fd, SUPER_SIZE, SUPER_OFFSET)) << BLOCK_BITS


class Listed(NamedTuple):
    """The objects of a root, and of these the recipes of its layers."""

    objects: frozenset[str]
    recipes: frozenset[str]


NOTHING_LISTED: Final = Listed(frozenset(), frozenset())


def listed_objects(fd: int) -> Listed:
    """Return what an image lists; its digest must have been checked. Raise ValueError and OSError."""
    begin = filesystem_size(fd)
    found = os.pread(fd, os.fstat(fd).st_size - begin, begin).hex()
    digests = [found[at : at + DIGITS] for at in range(0, len(found), DIGITS)]
    # Without recipes, all are objects.
    end = digests.index(_END_OF_OBJECTS) if _END_OF_OBJECTS in digests else len(digests)
    return Listed(frozenset(digests) - {_END_OF_OBJECTS}, frozenset(digests[end + 1 :]))


def object_path(digest: str) -> str:
    """Return the path of an object below all objects."""
    return f"{digest[:2]}/{digest[2:]}"


@contextmanager
def _described(nodes: Sequence[Node], contents: Contents) -> Iterator[set[str]]:
    """Set the attributes for overlayfs until the block ends, when the tree is the image's again; yield the objects."""
    before = [(node, node.kind, node.xattrs) for node in nodes]
    try:
        yield _describe(nodes, contents)
    finally:
        for node, kind, xattrs in before:
            node.kind, node.xattrs = kind, xattrs


def _describe(nodes: Sequence[Node], contents: Contents) -> set[str]:
    """Set the attributes for overlayfs, and protect the image's own from it; return the objects."""
    objects = set[str]()
    whiteouts = {id(node) for node in nodes if node.kind == "char" and node.device == (0, 0)}
    for node in nodes:
        if node.xattrs and any(name.startswith(_OVERLAY) for name in node.xattrs):
            node.xattrs = {_escaped(name): value for name, value in node.xattrs.items()}
        if whiteouts and node.children and any(id(child) in whiteouts for child in node.children.values()):
            node.xattrs = {**node.xattrs, **_HAS_WHITEOUTS}
        content = contents.get(id(node))
        if isinstance(content, str):
            objects.add(content)
            node.xattrs = {
                **node.xattrs,
                _OVERLAY + b"redirect": f"/{object_path(content)}".encode(),
                _OVERLAY + b"metacopy": metacopy(content),
            }
        elif id(node) in whiteouts:
            # No overlay can show such a device.
            node.kind, node.xattrs = "file", {**node.xattrs, **_WHITEOUT}
    return objects


def _escaped(name: bytes) -> bytes:
    return name.replace(_OVERLAY, _OVERLAY + b"overlay.", 1) if name.startswith(_OVERLAY) else name


class _Bodies:
    """Files that are one hole, as their data is elsewhere, or so small that it is inlined."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    def room(self, node: Node) -> Room:
        """Return the room for an inlined content, or for the map of a hole."""
        content = self._contents.get(id(node), b"")
        if isinstance(content, bytes):
            return Room(inline=len(content)) if content else NO_ROOM
        return Room(table=_hole(node.size)[1] * len(_HOLE))

    def place(self, _node: Node, free: int) -> int:
        """Return ``free``: there is no other data."""
        return free

    def body(self, node: Node) -> Body:
        """Return the inlined content, or the hole."""
        content = self._contents.get(id(node), b"")
        if isinstance(content, bytes):
            return Body(FLAT_INLINE, 0, content) if content else Body(FLAT_PLAIN, 0)
        bits, chunks = _hole(node.size)
        return Body(CHUNK_BASED, bits, _HOLE * chunks)


def _hole(size: int) -> tuple[int, int]:
    """Return the bits of a chunk beyond those of a block, and the chunks of a hole: one, if it is not too large."""
    bits = min(max(BLOCK_BITS, (size - 1).bit_length()) - BLOCK_BITS, _MOST_BITS)
    return bits, -(-size // (BLOCK << bits))
