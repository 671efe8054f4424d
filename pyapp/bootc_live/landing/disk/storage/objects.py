"""Roots that share files: a composefs store."""

from __future__ import annotations

from bootc_live.image.verified import VerifiedImage
from bootc_live.landing.disk.make import Stored
from bootc_live.rootfs.layouts.built import Finishing
from bootc_live.rootfs.layouts.composefs.layers import StoredLayers
from bootc_live.rootfs.layouts.composefs.layout import store_root
from bootc_live.rootfs.tree.merge import LayersRead, Warn


def store_in_objects(
    layers: StoredLayers, store: str, image: VerifiedImage, finishing: Finishing, read: LayersRead, warn: Warn
) -> Stored:
    """Write the root of an image to a store: a ``Store``. ``layers`` has those that were not fetched.

    Raise as ``store_root``.
    """
    root = store_root(image, store, finishing, read, warn, layers)
    return Stored(root.digest, root.obstacle)
