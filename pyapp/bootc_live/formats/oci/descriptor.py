"""Digests and content descriptors of the OCI image specification."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bootc_live.base.numbers import LARGEST_SIZE, bounded_integer

INDEX_TYPES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
MANIFEST_TYPES = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)
# Prefixes of media types that identify a document; others, such as application/json, do not.
CLAIMS = ("application/vnd.oci.", "application/vnd.docker.")
CONFIG_TYPES = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
# By what parts of manifests and indexes are found.
FIELDS = frozenset(
    {
        *("schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests"),
        *("digest", "size", "annotations", "platform", "os", "architecture", "variant"),
    }
)
# A layer's unpacked size in bytes, as umoci annotates it.
UNPACKED = "ci.umo.uncompressed_blob_size"
REF_NAME = "org.opencontainers.image.ref.name"
# Names of the entries of `cosign save`, and of the signatures of an image.
_COSIGN = "dev.cosignproject.cosign/"
_SIGNATURE = re.compile(r"(?:.*:)?sha256-[0-9a-f]{64}(?:\.[a-z]+)?\Z")
_DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z")


@dataclass(frozen=True)
class Platform:
    """The platform of an image; ``variant`` may be empty."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        """Return ``os/architecture/variant``."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True)
class Descriptor:
    """Digest and size of a blob (image-spec, descriptor.md)."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str = ""

    @property
    def is_artifact(self) -> bool:
        """Whether it is marked as another artifact than an image: a signature, an attestation, an SBOM, a chart."""
        kind = self.annotations.get("kind", "")
        return (
            "vnd.docker.reference.type" in self.annotations
            or (kind.startswith(_COSIGN) and kind not in (f"{_COSIGN}image", f"{_COSIGN}imageIndex"))
            or self.artifact_type not in ("", *CONFIG_TYPES)
            or (self.media_type.startswith("application/vnd.") and self.media_type not in INDEX_TYPES | MANIFEST_TYPES)
            or _SIGNATURE.match(self.annotations.get(REF_NAME, "")) is not None
        )

    @property
    def algorithm(self) -> str:
        """The name of the hash algorithm in hashlib."""
        return self.digest.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The hexadecimal part of the digest."""
        return self.digest.partition(":")[2]


def check_digest(text: object) -> str:
    """Return a valid digest; raises ValueError if it is not sha256 or sha512 in lower-case hexadecimal."""
    if not isinstance(text, str) or _DIGEST.match(text) is None:
        raise ValueError(f"{text!r} is not a sha256 or sha512 digest")
    return text


def parse_descriptor(data: object) -> Descriptor:
    """Parse a descriptor from decoded JSON; raises ValueError with the fault."""
    if not isinstance(data, dict):
        raise ValueError("a descriptor is not an object")
    try:
        size = bounded_integer(data.get("size"), limit=LARGEST_SIZE)
    except ValueError as error:
        raise ValueError(f"a descriptor has a size that is {error}") from error
    annotations = data.get("annotations") or {}
    if not isinstance(annotations, dict):
        raise ValueError("a descriptor has annotations that are not an object")
    return Descriptor(
        media_type=str(data.get("mediaType", "")),
        digest=check_digest(data.get("digest")),
        size=size,
        platform=_parse_platform(data.get("platform")),
        annotations={str(key): str(value) for key, value in annotations.items()},
        artifact_type=str(data.get("artifactType") or ""),
    )


def _parse_platform(data: object) -> Platform | None:
    if not isinstance(data, dict):
        return None
    return Platform(
        os=str(data.get("os", "")),
        architecture=str(data.get("architecture", "")),
        variant=str(data.get("variant", "")),
    )
