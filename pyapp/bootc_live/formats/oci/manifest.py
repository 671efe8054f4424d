"""Parse manifests, indexes and image configs (OCI image-spec and Docker schema 2)."""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from bootc_live.base.errors import ImageError
from bootc_live.formats.json_text import LARGEST, read_json
from bootc_live.formats.oci.descriptor import (
    CLAIMS,
    CONFIG_TYPES,
    FIELDS,
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    Platform,
    check_digest,
    parse_descriptor,
)

# Registries refuse manifests over 4 MiB (distribution-spec, pushing manifests).
MANIFEST_LIMIT = LARGEST
# Docker makes at most 127 layers, and overlayfs has a limit of 500.
MOST_LAYERS = 1024
_HINT = "check that the source is a container image built for OCI or Docker schema 2"
_HINT_AMBIGUOUS = "build and push the image again; it may be an attack that makes programs read different images"
_HINT_LAYERS = "build the image with fewer layers, or squash it"
# Fields that only indexes have, only image manifests, only manifests of schema 1, and only configs.
_INDEX_FIELDS = frozenset({"manifests"})
_MANIFEST_FIELDS = frozenset({"config", "layers"})
_SCHEMA_1_FIELDS = frozenset({"fsLayers", "history"})
_CONFIG_FIELDS = frozenset({"rootfs", "diff_ids", "os", "architecture", "variant", "created"})


@dataclass(frozen=True)
class Manifest:
    """The config and the layers of an image, base layer first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True)
class Process:
    """The program that an image is made to run (config.md, config), as written; ``fault`` is why it cannot be run."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    fault: str = ""


NO_PROCESS = Process()


@dataclass(frozen=True)
class ImageConfig:
    """The used parts of an image config: platform, one diffID for each layer (base layer first), and time of creation.

    ``created`` is a time as written (RFC 3339), or empty.
    """

    platform: Platform
    diff_ids: tuple[str, ...]
    created: str = ""
    process: Process = NO_PROCESS
    # The object "config", in JSON: for those who write the image again.
    settings: str = field(default="{}", repr=False)


def is_index(content: bytes, media_type: str) -> bool:
    """Return whether a document is an index and not a manifest, by its fields, its mediaType and ``media_type``.

    Raises ImageError if these disagree, because other programs may read another image from the same bytes
    (CVE-2021-41190). A general ``media_type``, such as application/json, is ignored.
    """
    data = _object(content)
    names = data.keys()
    readings: dict[str, bool | None] = {}
    if names & _INDEX_FIELDS:
        readings["its list of manifests"] = True
    if names & _MANIFEST_FIELDS:
        readings["its config and layers"] = False
    if names & _SCHEMA_1_FIELDS:
        readings["its fields of schema 1"] = None
    own = data.get("mediaType")
    if own is not None and own != "":
        readings[f"its mediaType {own!r}"] = _kind(own)
    if media_type.startswith(CLAIMS):
        readings[f"the type {media_type!r} of its descriptor or answer"] = _kind(media_type)
        if isinstance(own, str) and own and own != media_type:
            readings["both types, which differ"] = None
    if len(set(readings.values())) > 1 or None in readings.values():
        raise ImageError(
            f"it is ambiguous: it can be read in different ways, by {', '.join(readings)}", hint=_HINT_AMBIGUOUS
        )
    return True in readings.values()


def _kind(media_type: object) -> bool | None:
    if not isinstance(media_type, str):
        return None
    return True if media_type in INDEX_TYPES else False if media_type in MANIFEST_TYPES else None


def parse_index(content: bytes) -> tuple[Descriptor, ...]:
    """Return the manifests of an index (image-index.md); raises ImageError."""
    entries = _object(content).get("manifests")
    if not isinstance(entries, list):
        raise ImageError("it has no list of manifests", hint=_HINT)
    return tuple(_descriptor(entry) for entry in entries)


def parse_manifest(content: bytes) -> Manifest:
    """Parse an image manifest (manifest.md); raises ImageError."""
    data = _object(content)
    version = data.get("schemaVersion")
    # 2.0 is invalid, because other programs reject it.
    if not isinstance(version, int) or version != 2:
        raise ImageError(f"it has schemaVersion {version!r}, it must be 2", hint=_HINT)
    layers = data.get("layers")
    if not isinstance(layers, list) or not layers:
        raise ImageError("it has no layers", hint=_HINT)
    if len(layers) > MOST_LAYERS:
        raise ImageError(f"it has {len(layers)} layers, the limit is {MOST_LAYERS}", hint=_HINT_LAYERS)
    return Manifest(
        config=_descriptor(data.get("config")),
        layers=tuple(_descriptor(layer) for layer in layers),
    )


def is_artifact(content: bytes) -> bool:
    """Return whether a manifest is another artifact than an image, such as a signature; raises ImageError."""
    data = _object(content)
    config, layers = data.get("config"), data.get("layers")
    listed = layers if isinstance(layers, list) else []
    kinds = [str(layer.get("mediaType", "")) for layer in listed if isinstance(layer, dict)]
    return (
        data.get("artifactType", "") not in ("", *CONFIG_TYPES)
        or (isinstance(config, dict) and config.get("mediaType", "") not in ("", *CONFIG_TYPES))
        or any(kind and "tar" not in kind for kind in kinds)
    )


def parse_config(content: bytes, layers: int) -> ImageConfig:
    """Parse the config (config.md) of an image with ``layers`` layers; raises ImageError."""
    data = _object(content, _CONFIG_FIELDS)
    rootfs = data.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or len(diff_ids) != layers:
        raise ImageError(f"it does not list one diffID for each of the {layers} layers", hint=_HINT)
    try:
        checked = tuple(check_digest(diff_id) for diff_id in diff_ids)
    except ValueError as error:
        raise ImageError(f"it has a bad diffID: {error}", hint=_HINT) from error
    platform = Platform(
        os=str(data.get("os", "")),
        architecture=str(data.get("architecture", "")),
        variant=str(data.get("variant", "")),
    )
    settings = data.get("config")
    return ImageConfig(
        platform,
        checked,
        created=str(data.get("created", "")),
        process=_parse_process(settings),
        settings=json.dumps(settings) if isinstance(settings, dict) else "{}",
    )


def _parse_process(data: object) -> Process:
    """Return what a config says about its program. Most images are booted, and for these a fault does not matter."""
    given = data if isinstance(data, dict) else {}
    lists = {name: given.get(name) or [] for name in ("Entrypoint", "Cmd", "Env")}
    texts = {name: given.get(name) or "" for name in ("WorkingDir", "User", "StopSignal")}
    for name, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
            return Process(fault=f"its {name} is not a list of texts")
    for name, value in texts.items():
        if not isinstance(value, str) or "\0" in value:
            return Process(fault=f"its {name} is not a text")
    return Process(
        entrypoint=tuple(lists["Entrypoint"]),
        cmd=tuple(lists["Cmd"]),
        env=tuple(lists["Env"]),
        working_dir=texts["WorkingDir"],
        user=texts["User"],
        stop_signal=texts["StopSignal"],
    )


def _object(content: bytes, fields: AbstractSet[str] = FIELDS | _SCHEMA_1_FIELDS) -> dict[str, object]:
    try:
        data = read_json(content, fields)
    except ValueError as error:
        raise ImageError(f"it is not JSON: {error}", hint=_HINT) from error
    if not isinstance(data, dict):
        raise ImageError("it is not a JSON object", hint=_HINT)
    return data


def _descriptor(data: object) -> Descriptor:
    try:
        return parse_descriptor(data)
    except ValueError as error:
        raise ImageError(f"it is damaged: {error}", hint=_HINT) from error
