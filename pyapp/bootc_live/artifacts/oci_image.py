"""Write a verified image as an OCI layout (image-layout.md): its layers uncompressed, so that nothing is made twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bootc_live.formats.oci.descriptor import REF_NAME
from bootc_live.formats.tar.writer import END, NewMember, header, padding
from bootc_live.image.verified import VerifiedImage, VerifiedLayer
from bootc_live.image.verify import digest_of

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_PIECE = 4 * 2**20


@dataclass(frozen=True)
class LayoutFile:
    """A file of a layout: its path there, and its content."""

    name: str
    size: int
    chunks: Iterable[bytes]


@dataclass(frozen=True)
class OciImage:
    """An image as files; ``digest`` is that of its manifest."""

    digest: str
    files: tuple[LayoutFile, ...]


def oci_image(image: VerifiedImage, data: int, label: str) -> OciImage:
    """Return an image as an OCI layout; its layers are read from the data file, a descriptor."""
    config = _document(_config(image))
    layers = [{"mediaType": _LAYER, "digest": layer.diff_id, "size": layer.size} for layer in image.layers]
    described = {"mediaType": _CONFIG, "digest": digest_of(config), "size": len(config)}
    manifest = _document({"schemaVersion": 2, "mediaType": _MANIFEST, "config": described, "layers": layers})
    entry: dict[str, Any] = {"mediaType": _MANIFEST, "digest": digest_of(manifest), "size": len(manifest)}
    entry["annotations"] = {REF_NAME: label}
    documents = {
        "oci-layout": _document({"imageLayoutVersion": "1.0.0"}),
        "index.json": _document({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}),
        _blob(digest_of(manifest)): manifest,
        _blob(digest_of(config)): config,
    }
    files = [LayoutFile(name, len(content), [content]) for name, content in documents.items()]
    # A layer may occur twice.
    for diff_id, layer in {layer.diff_id: layer for layer in image.layers}.items():
        files.append(LayoutFile(_blob(diff_id), layer.size, _content(data, layer)))
    return OciImage(entry["digest"], tuple(files))


def write_layout(made: OciImage, directory: str) -> None:
    """Write the files into an empty directory; raise OSError."""
    for file in made.files:
        path = os.path.join(directory, file.name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as target:
            for chunk in file.chunks:
                target.write(chunk)


def archive(made: OciImage) -> Iterator[bytes]:
    """Yield the files as a tar, an OCI archive; the same image gives the same bytes."""
    for file in made.files:
        yield header(NewMember(file.name.encode(), "file", size=file.size))
        yield from file.chunks
        yield padding(file.size)
    yield END


def _config(image: VerifiedImage) -> Mapping[str, object]:
    config = image.resolved.config
    platform = config.platform
    fields = {"created": config.created, "variant": platform.variant}
    return {
        "architecture": platform.architecture,
        "os": platform.os,
        **{name: value for name, value in fields.items() if value},
        "config": json.loads(config.settings),
        "rootfs": {"type": "layers", "diff_ids": config.diff_ids},
    }


def _document(data: Mapping[str, object]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode()


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _content(data: int, layer: VerifiedLayer) -> Iterator[bytes]:
    end = layer.offset + layer.size
    for begin in range(layer.offset, end, _PIECE):
        yield os.pread(data, min(_PIECE, end - begin), begin)
