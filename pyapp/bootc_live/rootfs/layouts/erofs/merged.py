"""Build an EROFS image of a tree that is merged already, and whose files stay in the data file."""

from __future__ import annotations

import os

from bootc_live.config.model import Compression
from bootc_live.formats.verity import HashTree
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.layouts.erofs.file_store import Stored, file_store
from bootc_live.rootfs.layouts.erofs.layout import hash_image, write_image
from bootc_live.rootfs.tree.node import Node, walk
from bootc_live.system.files import write_at


def write_merged(root: Node, image: VerifiedImage, fd: int) -> HashTree:
    """Write a tree as an EROFS image to an empty file, and behind it the hash tree of dm-verity; return that.

    Nothing is compressed, and times are kept. The same tree gives the same bytes. Raise ValueError for what EROFS
    cannot hold, and OSError.
    """
    data, files = os.open(image.path, os.O_RDONLY | os.O_CLOEXEC), dict[int, Stored]()

    def read(start: int, length: int) -> bytes:
        return os.pread(data, length, start)

    try:
        with file_store(fd, Compression.NONE) as store:
            for node in walk(root):
                if node.kind == "file" and node.size:
                    if node.extents is not None:
                        files[node.offset] = store.put_sparse(read, node.size, node.extents)
                    else:
                        files[node.offset] = store.put(read, node.offset, node.size)
            _, size = write_image(root, store, files)
    finally:
        os.close(data)
    _, tree = hash_image(fd, verity=True)
    assert tree is not None, "it was asked for"
    write_at(fd, size, tree.packed)
    return tree
