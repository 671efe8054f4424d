"""Build the composefs layout: put a verified image into the store of a disk."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.layouts.built import Finishing, cannot_hold, unchanged
from bootc_live.rootfs.layouts.composefs.layers import StoredLayers, add_recipes, name_layers
from bootc_live.rootfs.layouts.composefs.metadata import INLINE_MOST, write_image
from bootc_live.rootfs.layouts.composefs.store import StoreWriter, small_content, store_writer
from bootc_live.rootfs.tree.data import begin_of
from bootc_live.rootfs.tree.merge import LayersRead, Warn, merge, unsaid
from bootc_live.rootfs.tree.node import Node, path_of, walk


@dataclass(frozen=True)
class StoredRoot:
    """A root in a store: the digest of its metadata image, and the objects that it lists.

    ``added`` counts contents of files that were not there before, ``added_bytes`` their bytes. ``obstacle`` tells why
    fs-verity does not protect the files, empty if it does. ``labelled`` tells whether the root has SELinux labels.
    """

    digest: str
    objects: frozenset[str]
    added: int
    added_bytes: int
    obstacle: str
    labelled: bool


def store_root(
    image: VerifiedImage,
    store: str,
    finishing: Finishing = unchanged,
    read: LayersRead | None = None,
    warn: Warn = unsaid,
    reused: StoredLayers | None = None,
) -> StoredRoot:
    """Put a verified image into a store; it is on the disk then, and the data file is unchanged.

    Some layers may have been placed by ``reused``.

    Until something refers to the root, only the caller's lock keeps ``prune`` from removing it. Raise ImageError for
    layers that cannot be used, RootfsError for what EROFS cannot hold, and OutOfMemoryError if the disk is full; no
    name of the store has changed then.
    """
    root = merge(image, read, warn)
    labelled = finishing(root, image)
    try:
        with store_writer(store) as writer:
            contents = _stored(root, image, writer, reused)
            file = os.memfd_create("bootc-live image", os.MFD_CLOEXEC)
            try:
                recipes = add_recipes(writer, image, contents, [*walk(root)], reused.placed if reused else {})
                objects = write_image(root, contents, file, recipes.values())
                digest = writer.add_image(file)
            finally:
                os.close(file)
            writer.commit()
            name_layers(store, recipes)
    except ValueError as error:
        raise cannot_hold(image, error) from error
    return StoredRoot(digest, frozenset(objects), writer.added, writer.added_bytes, writer.obstacle, labelled)


def _stored(
    root: Node, image: VerifiedImage, writer: StoreWriter, reused: StoredLayers | None
) -> dict[int, str | bytes]:
    """Add the contents of all files to a store; return the object of each file, or what is inlined."""
    contents: dict[int, str | bytes] = {}
    known = {place: kept for layer in image.layers for place, kept in layer.left_out.items()}
    # What was fetched replaces an object that is damaged; what was placed was not compared with its own.
    used = [reused.used if reused and layer.diff_id in reused.placed else frozenset[str]() for layer in image.layers]
    data = os.open(image.path, os.O_RDONLY | os.O_CLOEXEC)
    node = root
    try:
        for node in sorted((node for node in walk(root) if node.kind == "file"), key=begin_of):
            if node.size <= INLINE_MOST:
                contents[id(node)] = small_content(data, node)
            elif kept := known.get((node.offset, node.size)) if node.extents is None else None:
                # Its object was there, and is kept by the lock of the caller.
                contents[id(node)] = kept.digest
            else:
                contents[id(node)] = writer.add(data, node, used[node.layer])
    except ValueError as error:
        raise ValueError(f"{path_of(root, node)} {error}") from error
    finally:
        os.close(data)
    return contents
