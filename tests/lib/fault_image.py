"""The image that tests of faults fetch, in a real registry: layers of very different sizes, and the tree they make."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lib.oci_writer import Image, Layer, write_archive, write_layout
from tests.lib.registry import Registry, registry
from tests.lib.small_image import BASE, HERE, UPPER
from tests.lib.tar_writer import directory, file, layer
from tests.lib.tree_list import Line, tree_list

NAME: Final = "os"
FORGED: Final = "forged"
BULK_SIZE: Final = 5 * 2**20
DRIP_SIZE: Final = 20 * 2**10


@dataclass(frozen=True)
class Blob:
    """A blob of the image: its digest, and its size as it is transferred."""

    digest: str
    size: int


@dataclass(frozen=True)
class Published:
    """The image in a registry; `digest` is that of its manifest, `tree` what it unpacks to.

    `bulk` is the layer of several MiB, `drip` the one of some KiB (neither can be compressed), `last` the top layer;
    `blobs` are all, with the config. `archive` holds the same image, `other` is the manifest of another one, which the
    repository `FORGED` has.
    """

    registry: Registry
    digest: str
    tree: list[Line]
    config: Blob
    bulk: Blob
    drip: Blob
    last: Blob
    blobs: tuple[Blob, ...]
    archive: Path
    other: bytes

    @property
    def size(self) -> int:
        """Bytes of all layers as they are transferred."""
        return sum(blob.size for blob in self.blobs) - self.config.size

    def missing(self, done: list[Blob]) -> list[Blob]:
        """The blobs that are not in `done`."""
        return [blob for blob in self.blobs if blob not in done]


def fault_image() -> Image:
    """The image, the same at every call."""
    noise = random.Random(2024)
    bulk = layer(directory("bulk/"), file("bulk/noise", noise.randbytes(BULK_SIZE)))
    drip = layer(file("bulk/drip", noise.randbytes(DRIP_SIZE)))
    # Faults are to befall transfers: nobody has to look at a layer whose size is said.
    said = {"ci.umo.uncompressed_blob_size": str(len(bulk))}
    layers = [Layer(BASE), Layer(bulk, annotations=said), Layer(drip), Layer(UPPER)]
    return Image(layers, architecture=HERE)


@contextmanager
def published(where: Path) -> Iterator[Published]:
    """The image in a registry of its own below `where`, which ends with the block."""
    image = fault_image()
    layout = write_layout(where / "layout", image)
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:latest", where / "bundle"], check=True)
    changed = Image([*image.layers, Layer(layer(file("etc/forged", "forged\n")))], architecture=HERE)
    forged = write_layout(where / "forged", changed)
    with registry(where / "registry") as running:
        digest = running.put(layout, NAME, "latest")
        other = running.put(forged, FORGED, "latest")
        manifest = json.loads(running.blob(digest).read_bytes())
        entries = [manifest["config"], *manifest["layers"]]
        blobs = tuple(Blob(entry["digest"], entry["size"]) for entry in entries)
        yield Published(
            registry=running,
            digest=digest,
            tree=tree_list(where / "bundle/rootfs"),
            config=blobs[0],
            bulk=blobs[2],
            drip=blobs[3],
            last=blobs[4],
            blobs=blobs,
            archive=write_archive(where / "image.oci", image),
            other=running.blob(other).read_bytes(),
        )
