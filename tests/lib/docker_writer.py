"""Writes docker-archives the way different tools do.

Follows the Docker image specification v1.2 ("Combined Image JSON + Filesystem Changeset Format") for `save`, and what
skopeo, ggcr (crane) and Docker 25 and later make of it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tests.lib.archive_members import Link, Members
from tests.lib.oci_writer import Image, Layer, layout_files, sha256
from tests.lib.small_image import HERE

Style = Literal["save", "save-hard", "skopeo", "ggcr", "moby"]
STYLES: Final[tuple[Style, ...]] = ("save", "save-hard", "skopeo", "ggcr", "moby")


@dataclass(frozen=True)
class Saved:
    """An image as it is saved: its layers as tars, and its names; the rest overrides what is written."""

    tars: Sequence[bytes]
    tags: Sequence[str] = ("registry.example/os:latest",)
    architecture: str = HERE
    diff_ids: Sequence[str] | None = None

    @property
    def config(self) -> bytes:
        """The image config."""
        diff_ids = [sha256(tar) for tar in self.tars] if self.diff_ids is None else list(self.diff_ids)
        rootfs = {"type": "layers", "diff_ids": diff_ids}
        return json.dumps({"architecture": self.architecture, "os": "linux", "rootfs": rootfs}).encode()


def docker_members(style: Style, *images: Saved) -> Members:
    """The members of a docker-archive; the manifest comes last but for `repositories`, as tools write it."""
    members: Members = {}
    entries = []
    for image in images:
        names = {"save": _saved, "save-hard": _saved_hard, "skopeo": _skopeo, "ggcr": _ggcr, "moby": _moby}[style](
            members, image
        )
        entries.append({"Config": names[0], "RepoTags": list(image.tags) or None, "Layers": names[1:]})
    members["manifest.json"] = json.dumps(entries).encode()
    if style != "ggcr":
        tags = {tag: "0" * 64 for image in images for tag in image.tags}
        members["repositories"] = json.dumps(tags).encode()
    return members


def _hex(data: bytes) -> str:
    return sha256(data).partition(":")[2]


def _saved(members: Members, image: Saved, *, hard: bool = False) -> list[str]:
    """One directory a layer; what stands twice is a link to the first."""
    first: dict[bytes, str] = {}
    names = []
    for number, tar in enumerate(image.tars):
        own = _hex(f"{number} {image.tags}".encode())
        names.append(f"{own}/layer.tar")
        members[f"{own}/VERSION"] = b"1.0"
        members[f"{own}/json"] = json.dumps({"id": own}).encode()
        if tar in first:
            members[names[-1]] = Link(first[tar] if hard else f"../{first[tar]}", hard=hard)
        else:
            members[names[-1]] = tar
            first[tar] = names[-1]
    config = f"{_hex(image.config)}.json"
    members[config] = image.config
    return [config, *names]


def _saved_hard(members: Members, image: Saved) -> list[str]:
    return _saved(members, image, hard=True)


def _skopeo(members: Members, image: Saved) -> list[str]:
    """Layers by their digest; the old names are links to them."""
    names = []
    for number, tar in enumerate(image.tars):
        names.append(f"{_hex(tar)}.tar")
        members[names[-1]] = tar
        own = _hex(f"{number} {image.tags}".encode())
        members[f"{own}/layer.tar"] = Link(f"../{names[-1]}")
        members[f"{own}/VERSION"] = b"1.0"
        members[f"{own}/json"] = json.dumps({"id": own}).encode()
    config = f"{_hex(image.config)}.json"
    members[config] = image.config
    return [config, *names]


def _ggcr(members: Members, image: Saved) -> list[str]:
    """Compressed layers, and a config that is called by its digest."""
    config = sha256(image.config)
    members[config] = image.config
    names = []
    for tar in image.tars:
        blob = gzip.compress(tar, 1, mtime=0)
        names.append(f"{_hex(blob)}.tar.gz")
        members[names[-1]] = blob
    return [config, *names]


def _moby(members: Members, image: Saved) -> list[str]:
    """An OCI layout with a manifest.json beside its index.json."""
    tag = image.tags[0].rpartition(":")[2] if image.tags else None
    made = Image([Layer(tar, "none") for tar in image.tars], tag, image.architecture, config=image.config)
    files = {name: data for name, data in layout_files(made).items() if isinstance(data, bytes)}
    if "index.json" in members:
        before = members["index.json"]
        assert isinstance(before, bytes)
        index, more = json.loads(before), json.loads(files["index.json"])
        index["manifests"] += more["manifests"]
        files["index.json"] = json.dumps(index).encode()
    members.update(files)
    blobs = "blobs/sha256/"
    return [f"{blobs}{_hex(image.config)}", *(f"{blobs}{_hex(tar)}" for tar in image.tars)]
