"""Roots that share files: a composefs store."""

from __future__ import annotations

from contextlib import suppress

from bootc_live.base.errors import RootfsError
from bootc_live.image.verified import VerifiedImage
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.disk.make import Stored
from bootc_live.rootfs.layouts.built import Finishing
from bootc_live.rootfs.layouts.composefs.check import listed
from bootc_live.rootfs.layouts.composefs.layers import StoredLayers
from bootc_live.rootfs.layouts.composefs.layout import store_root
from bootc_live.rootfs.layouts.composefs.metadata import NOTHING_LISTED, Listed
from bootc_live.rootfs.tree.merge import LayersRead, Warn


def running_root(machine: Machine) -> Listed:
    """Return what the kernel was told of, by the digest of the metadata that lists it.

    Nothing for another system's disk: nobody knows who wrote its boot entries.
    """
    if machine.root and not machine.settings.slots:
        with suppress(RootfsError):
            return listed(machine.disk.top, machine.root)
    return NOTHING_LISTED


def store_in_objects(
    layers: StoredLayers, store: str, image: VerifiedImage, finishing: Finishing, read: LayersRead, warn: Warn
) -> Stored:
    """Write the root of an image to a store: a ``Store``. ``layers`` has those that were not fetched.

    Raise as ``store_root``.
    """
    root = store_root(image, store, finishing, read, warn, layers)
    return Stored(root.digest, root.obstacle)
