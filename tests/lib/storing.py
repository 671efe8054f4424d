"""Images in the store of a disk, as the composefs layout puts them there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bootc_live.base.log import Recorder
from bootc_live.config.source_spec import ArchiveFile
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.layouts.composefs.check import listed
from bootc_live.rootfs.layouts.composefs.layers import StoredLayers
from bootc_live.rootfs.layouts.composefs.layout import StoredRoot, store_root
from bootc_live.source.access import Access
from tests.lib.fetching import fetched_archive, plain, quiet
from tests.lib.oci_writer import Image, Layer, compress, sha256, write_archive
from tests.lib.small_image import HERE
from tests.lib.tree_list import Line

_EMPTY: Final = hashlib.sha256().hexdigest()


def stored(store: Path, tars: Sequence[bytes]) -> StoredRoot:
    """The root of an image of these layers, base first, in a store; nothing else is left."""
    archive = write_archive(store.parent / "image.oci", Image([Layer(tar, "none") for tar in tars], architecture=HERE))
    data = store.parent / "layers"
    try:
        return store_root(fetched_archive(archive, str(archive), data), str(store))
    finally:
        archive.unlink()
        data.unlink(missing_ok=True)


def objects(store: Path) -> dict[str, Path]:
    """All objects of a store by their names."""
    return {path.parent.name + path.name: path for path in (store / "objects").glob("*/*")}


def recipes(store: Path) -> set[str]:
    """The objects that are recipes of layers."""
    return {os.readlink(path) for path in (store / "layers").iterdir()}


def as_overlaid(lines: Sequence[Line]) -> list[Line]:
    """A tree as an overlay can show it: devices that it would take for whiteouts are files that the next one does."""
    whiteouts = {line.path for line in lines if line.kind == "c" and line.size == "0:0"}
    parents = {path.rpartition("/")[0] or "." for path in whiteouts}
    made = []
    for line in lines:
        if line.path in whiteouts:
            marked = "trusted.overlay.whiteout=0x,user.overlay.whiteout=0x"
            made.append(line.but(kind="f", size="0", sha256=_EMPTY, xattrs=marked))
        elif line.path in parents:
            made.append(line.but(xattrs="trusted.overlay.opaque=0x78,user.overlay.opaque=0x78"))
        else:
            made.append(line)
    return made


def fetched(directory: Path, layers: StoredLayers, tars: Sequence[bytes], gone: int = 0) -> VerifiedImage:
    """An image of these layers, of a source that lacks the first ones: they have to be in the store."""
    made = Image([Layer(tar, "gzip") for tar in tars], architecture=HERE)
    without = [f"blobs/sha256/{sha256(compress(tar, 'gzip')).partition(':')[2]}" for tar in tars[:gone]]
    archive = write_archive(directory / "new.oci", made, without=tuple(without))
    data = directory / "data"
    data.unlink(missing_ok=True)
    return plain([ArchiveFile(str(archive), "x")], Access(quiet, cache=layers), data, Recorder(quiet=True)).image


def trusting(store: Path, *more: str) -> StoredLayers:
    """The layers of a store whose newest root runs, and lists more recipes."""
    root = max((store / "images").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    found = listed(str(store), root.stem)
    return StoredLayers(str(store), found._replace(recipes=found.recipes | {*more}))
