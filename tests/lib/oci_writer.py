"""Writes OCI archives and image layouts, right by default and wrong on demand.

Follows the OCI image-spec v1.1: image-layout.md, image-index.md, manifest.md, config.md. Every digest and size can be
overridden by the field of the same name, so that a test says exactly which promise it breaks.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from tests.lib.needs import need

Compression = Literal["gzip", "zstd", "none"]
Flavour = Literal["oci", "docker"]

REF_NAME: Final = "org.opencontainers.image.ref.name"
_OCI: Final = "application/vnd.oci.image"
_DOCKER: Final = "application/vnd.docker"
MEDIA_TYPES: Final[Mapping[Flavour, Mapping[str, str]]] = {
    "oci": {
        "index": f"{_OCI}.index.v1+json",
        "manifest": f"{_OCI}.manifest.v1+json",
        "config": f"{_OCI}.config.v1+json",
        "gzip": f"{_OCI}.layer.v1.tar+gzip",
        "zstd": f"{_OCI}.layer.v1.tar+zstd",
        "none": f"{_OCI}.layer.v1.tar",
    },
    "docker": {
        "index": f"{_DOCKER}.distribution.manifest.list.v2+json",
        "manifest": f"{_DOCKER}.distribution.manifest.v2+json",
        "config": f"{_DOCKER}.container.image.v1+json",
        "gzip": f"{_DOCKER}.image.rootfs.diff.tar.gzip",
        "zstd": f"{_DOCKER}.image.rootfs.diff.tar.zstd",
        "none": f"{_DOCKER}.image.rootfs.diff.tar",
    },
}


def sha256(data: bytes | Path) -> str:
    """The digest `sha256:<hex>` of bytes or of a file's content."""
    if isinstance(data, bytes):
        return "sha256:" + hashlib.sha256(data).hexdigest()
    with data.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def compress(tar: bytes, how: Compression) -> bytes:
    """`tar` as the blob of a layer; gzip carries no time, so the bytes are the same on every run."""
    if how == "gzip":
        return gzip.compress(tar, 1, mtime=0)
    if how == "zstd":
        need("zstd")
        return subprocess.run(["zstd", "-q", "-c"], input=tar, stdout=subprocess.PIPE, check=True).stdout
    return tar


@dataclass(frozen=True)
class Layer:
    """One layer: `tar` inflated; `blob` instead of what compressing it gives; the rest overrides what is written."""

    tar: bytes = b""
    compression: Compression = "gzip"
    blob: bytes | Path | None = None
    diff_id: str | None = None
    digest: str | None = None
    size: int | None = None
    media_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Image:
    """One manifest with its config. `ref` becomes the `ref.name` annotation of its entry in index.json."""

    layers: Sequence[Layer]
    ref: str | None = "latest"
    architecture: str = "amd64"
    os: str = "linux"
    variant: str | None = None
    flavour: Flavour = "oci"
    labels: Mapping[str, str] = field(default_factory=dict)
    diff_ids: Sequence[str] | None = None
    config: bytes | None = None
    config_digest: str | None = None
    config_size: int | None = None
    manifest_digest: str | None = None
    manifest_size: int | None = None
    name_platform: bool = True


@dataclass(frozen=True)
class Index:
    """A nested index, as multi-platform images have one: `images` without refs of their own."""

    images: Sequence[Image]
    ref: str | None = "latest"
    flavour: Flavour = "oci"


@dataclass
class _Blobs:
    stored: dict[str, bytes | Path] = field(default_factory=dict)

    def add(self, data: bytes | Path) -> str:
        digest = sha256(data)
        self.stored[digest] = data
        return digest

    def add_as(self, digest: str | None, data: bytes | Path) -> str:
        """Stores `data` under a digest that may not be its own."""
        if digest is None:
            return self.add(data)
        self.stored[digest] = data
        return digest


def _length(data: bytes | Path) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def _json(value: object) -> bytes:
    return json.dumps(value, indent=None, separators=(",", ":"), sort_keys=True).encode()


def _first(value: int | None, default: int) -> int:
    return default if value is None else value


def _layer(blobs: _Blobs, layer: Layer, types: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    blob = compress(layer.tar, layer.compression) if layer.blob is None else layer.blob
    descriptor: dict[str, Any] = {
        "mediaType": layer.media_type or types[layer.compression],
        "digest": blobs.add_as(layer.digest, blob),
        "size": _first(layer.size, _length(blob)),
        **({"annotations": dict(layer.annotations)} if layer.annotations else {}),
    }
    return descriptor, layer.diff_id or sha256(layer.tar)


def _platform(image: Image) -> dict[str, str]:
    platform = {"architecture": image.architecture, "os": image.os}
    if image.variant:
        platform["variant"] = image.variant
    return platform


def _annotated(descriptor: dict[str, Any], ref: str | None) -> dict[str, Any]:
    return descriptor if ref is None else {**descriptor, "annotations": {REF_NAME: ref}}


def _image(blobs: _Blobs, image: Image) -> dict[str, Any]:
    types = MEDIA_TYPES[image.flavour]
    written = [_layer(blobs, layer, types) for layer in image.layers]
    config = image.config
    if config is None:
        diff_ids = [diff_id for _, diff_id in written] if image.diff_ids is None else list(image.diff_ids)
        config = _json(
            {
                **_platform(image),
                "config": {"Labels": dict(image.labels)},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
                "history": [{"created_by": "test"} for _ in diff_ids],
            }
        )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": types["manifest"],
            "config": {
                "mediaType": types["config"],
                "digest": blobs.add_as(image.config_digest, config),
                "size": _first(image.config_size, len(config)),
            },
            "layers": [descriptor for descriptor, _ in written],
        }
    )
    entry: dict[str, Any] = {
        "mediaType": types["manifest"],
        "digest": blobs.add_as(image.manifest_digest, manifest),
        "size": _first(image.manifest_size, len(manifest)),
    }
    if image.name_platform:
        entry["platform"] = _platform(image)
    return entry


def _entry(blobs: _Blobs, item: Image | Index) -> dict[str, Any]:
    if isinstance(item, Image):
        return _annotated(_image(blobs, item), item.ref)
    media_type = MEDIA_TYPES[item.flavour]["index"]
    images = [_image(blobs, image) for image in item.images]
    body = _json({"schemaVersion": 2, "mediaType": media_type, "manifests": images})
    return _annotated({"mediaType": media_type, "digest": blobs.add(body), "size": len(body)}, item.ref)


def layout_files(*items: Image | Index) -> dict[str, bytes | Path]:
    """The files of a layout by name: oci-layout and index.json first, then blobs in the order they are needed last."""
    blobs = _Blobs()
    entries = [_entry(blobs, item) for item in items]
    files: dict[str, bytes | Path] = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "mediaType": MEDIA_TYPES["oci"]["index"], "manifests": entries}),
    }
    for digest, data in blobs.stored.items():
        algorithm, _, name = digest.partition(":")
        files[f"blobs/{algorithm}/{name}"] = data
    return files


def write_layout(path: Path, *items: Image | Index, without: Sequence[str] = ()) -> Path:
    """Writes an OCI image layout directory and gives its path; files named in `without` are left out."""
    for name, data in layout_files(*items).items():
        if name in without:
            continue
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, bytes):
            target.write_bytes(data)
        else:
            shutil.copyfile(data, target)
    return path


def write_archive(path: Path, *items: Image | Index, without: Sequence[str] = ()) -> Path:
    """Writes the same as one tar file, in the member order of skopeo (blobs first), and gives its path."""
    files = layout_files(*items)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            if name in without:
                continue
            data = files[name]
            info = tarfile.TarInfo(name)
            info.size = _length(data)
            if isinstance(data, bytes):
                archive.addfile(info, io.BytesIO(data))
            else:
                with data.open("rb") as stream:
                    archive.addfile(info, stream)
    return path
