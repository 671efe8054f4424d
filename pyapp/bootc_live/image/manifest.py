"""Parse manifests, indexes and image configs (OCI image-spec and Docker schema 2). Pure: bytes in, types out."""

from __future__ import annotations

import json
from dataclasses import dataclass

from bootc_live.base.errors import ImageError
from bootc_live.source.descriptor import Descriptor, Platform, check_digest, parse_descriptor

INDEX_TYPES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
_HINT = "check that the source is a container image built for OCI or Docker schema 2"


@dataclass(frozen=True)
class Manifest:
    """One image: its config and its layers, base first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True)
class ImageConfig:
    """The parts of an image config that booting needs; one diffID a layer, base first."""

    platform: Platform
    diff_ids: tuple[str, ...]


def is_index(content: bytes, media_type: str, what: str) -> bool:
    """Tell an index from a manifest, by its own mediaType, the given one, or its shape."""
    data = _object(content, what)
    own = data.get("mediaType")
    if isinstance(own, str) and own:
        return own in INDEX_TYPES
    return media_type in INDEX_TYPES or ("manifests" in data and "layers" not in data)


def parse_index(content: bytes, what: str) -> tuple[Descriptor, ...]:
    """Give the manifests of an index (image-index.md); raises ImageError that begins with ``what``."""
    entries = _object(content, what).get("manifests")
    if not isinstance(entries, list):
        raise ImageError(f"{what} has no list of manifests", hint=_HINT)
    return tuple(_descriptor(entry, what) for entry in entries)


def parse_manifest(content: bytes, what: str) -> Manifest:
    """Read an image manifest (manifest.md); raises ImageError that begins with ``what``."""
    data = _object(content, what)
    if data.get("schemaVersion") != 2:
        raise ImageError(f"{what} has schemaVersion {data.get('schemaVersion')!r}, it must be 2", hint=_HINT)
    layers = data.get("layers")
    if not isinstance(layers, list) or not layers:
        raise ImageError(f"{what} has no layers", hint=_HINT)
    return Manifest(
        config=_descriptor(data.get("config"), what),
        layers=tuple(_descriptor(layer, what) for layer in layers),
    )


def parse_config(content: bytes, layers: int, what: str) -> ImageConfig:
    """Read an image config (config.md) for an image of so many layers; raises ImageError as above."""
    data = _object(content, what)
    rootfs = data.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or len(diff_ids) != layers:
        raise ImageError(f"{what} does not list one diffID for each of the {layers} layers", hint=_HINT)
    try:
        checked = tuple(check_digest(diff_id) for diff_id in diff_ids)
    except ValueError as error:
        raise ImageError(f"{what} has a bad diffID: {error}", hint=_HINT) from error
    platform = Platform(
        os=str(data.get("os", "")),
        architecture=str(data.get("architecture", "")),
        variant=str(data.get("variant", "")),
    )
    return ImageConfig(platform=platform, diff_ids=checked)


def _object(content: bytes, what: str) -> dict[str, object]:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{what} is not JSON: {error}", hint=_HINT) from error
    if not isinstance(data, dict):
        raise ImageError(f"{what} is not a JSON object", hint=_HINT)
    return data


def _descriptor(data: object, where: str) -> Descriptor:
    try:
        return parse_descriptor(data)
    except ValueError as error:
        raise ImageError(f"{where} is damaged: {error}", hint=_HINT) from error
