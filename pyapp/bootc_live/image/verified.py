"""What has been verified, as types: they can only be had from here, against the proof."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from typing import Final, final

from bootc_live.base.errors import ImageError
from bootc_live.formats.oci.manifest import ImageConfig, Manifest, parse_config
from bootc_live.image.verify import check_content


@final
class _Seal:
    """Only this module can make one, so only this module makes verified values."""


_SEAL: Final = _Seal()


@dataclass(frozen=True)
class ResolvedImage:
    """A verified manifest and config; no layer has been fetched yet.

    ``digests`` are those of the indexes that lead to the manifest, outermost first, and its own; none for
    docker-archives, which have no manifest.
    """

    typed: str
    insecure: bool
    digests: tuple[str, ...]
    manifest: Manifest
    config: ImageConfig
    seal: InitVar[_Seal]

    @property
    def manifest_digest(self) -> str | None:
        """The digest of the manifest, None for docker-archives."""
        return self.digests[-1] if self.digests else None

    @property
    def identity(self) -> str:
        """The digest it is known by: the manifest's, or the config's where it has none."""
        return self.manifest_digest or self.manifest.config.digest

    @property
    def compressed_size(self) -> int:
        """Bytes of all layers as they are transferred, each digest once."""
        return sum({layer.digest: layer.size for layer in self.manifest.layers}.values())


@dataclass(frozen=True)
class VerifiedLayer:
    """A layer's tar, ``size`` bytes at ``offset`` of the data file; the content has the diffID."""

    diff_id: str
    offset: int
    size: int
    seal: InitVar[_Seal]


@dataclass(frozen=True)
class VerifiedImage:
    """An image with every byte checked; layers base first, in the data file ``path``."""

    resolved: ResolvedImage
    path: str
    layers: tuple[VerifiedLayer, ...]
    seal: InitVar[_Seal]

    @property
    def size(self) -> int:
        """Bytes of all layers unpacked."""
        return sum({layer.offset: layer.size for layer in self.layers}.values())


def resolved_image(
    typed: str, manifest: Manifest, config: bytes, *, insecure: bool, digests: tuple[str, ...]
) -> ResolvedImage:
    """Make one of a verified manifest and its config's content; raises ImageError where that is not what it names."""
    what = f"the image config {manifest.config.digest} of {typed!r}"
    check_content(config, manifest.config.digest, manifest.config.size, what)
    return ResolvedImage(typed, insecure, digests, manifest, parse_config(config, len(manifest.layers), what), _SEAL)


def verified_layer(diff_id: str, found: str, offset: int, size: int, what: str) -> VerifiedLayer:
    """Make one of data whose digest was found; raises ImageError where that is not the diffID."""
    if found != diff_id:
        raise ImageError(
            f"{what} unpacks to the diffID {found}, the image config gives {diff_id}",
            hint="the image contradicts itself: build and push it again",
        )
    return VerifiedLayer(diff_id, offset, size, _SEAL)


def verified_image(resolved: ResolvedImage, path: str, layers: Sequence[VerifiedLayer]) -> VerifiedImage:
    """Make one of all its layers, base first; raises ValueError where they are not those of its config."""
    if tuple(layer.diff_id for layer in layers) != resolved.config.diff_ids:
        raise ValueError("layers of another image")
    return VerifiedImage(resolved, path, tuple(layers), _SEAL)
