"""Types of verified data, which only the functions of this module can make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from typing import Final, final

from bootc_live.base.errors import ImageError, about
from bootc_live.formats.oci.descriptor import UNPACKED, Descriptor, Platform
from bootc_live.formats.oci.manifest import NO_PROCESS, ImageConfig, Manifest, parse_config
from bootc_live.image.verify import check_content, digest_of
from bootc_live.source.interface import KeptContent, PlacedLayer


@final
class _Seal:
    """A value that only this module has, so that no other module can make verified values."""


_SEAL: Final = _Seal()
_TAR: Final = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class ResolvedImage:
    """A verified manifest and config, without layers.

    ``digests`` are those of the indexes that lead to the manifest, outermost first, and its own; none for
    docker-archives, which have no manifest. ``named_by`` is the server that said which they are, if the source has
    several.
    """

    source_text: str
    insecure: bool
    digests: tuple[str, ...]
    manifest: Manifest
    config: ImageConfig
    seal: InitVar[_Seal]
    named_by: str | None = None

    @property
    def manifest_digest(self) -> str | None:
        """The digest of the manifest, None for docker-archives."""
        return self.digests[-1] if self.digests else None

    @property
    def identity(self) -> str:
        """The digest of the manifest, or of the config if there is no manifest."""
        return self.manifest_digest or self.manifest.config.digest

    @property
    def compressed_size(self) -> int:
        """The bytes of all layers as transferred, each digest once."""
        return sum({layer.digest: layer.size for layer in self.manifest.layers}.values())


@dataclass(frozen=True)
class VerifiedLayer:
    """A layer's tar, ``size`` bytes at ``offset`` of the data file, that matches its diffID.

    ``left_out`` are contents of files that are in other files: see ``PlacedLayer``.
    """

    diff_id: str
    offset: int
    size: int
    seal: InitVar[_Seal]
    left_out: Mapping[tuple[int, int], KeptContent] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class VerifiedImage:
    """An image with all layers verified, base first, in the data file ``path``."""

    resolved: ResolvedImage
    path: str
    layers: tuple[VerifiedLayer, ...]
    seal: InitVar[_Seal]

    @property
    def size(self) -> int:
        """The bytes of all unpacked layers."""
        return sum({layer.offset: layer.size for layer in self.layers}.values())


def resolved_image(
    source_text: str,
    manifest: Manifest,
    config: bytes,
    *,
    insecure: bool,
    digests: tuple[str, ...],
    named_by: str | None = None,
) -> ResolvedImage:
    """Return the image of a verified manifest; raise ImageError if ``config`` is not the config that it names."""
    with about(f"the image config {manifest.config.digest} of {source_text!r}"):
        check_content(config, manifest.config.digest, manifest.config.size)
        parsed = parse_config(config, len(manifest.layers))
    return ResolvedImage(source_text, insecure, digests, manifest, parsed, _SEAL, named_by)


def local_image(source_text: str, platform: Platform, layer: VerifiedLayer) -> ResolvedImage:
    """Return an image of one layer that was made here, such as of a directory: its digests say what came."""
    blob = Descriptor(_TAR, layer.diff_id, layer.size, annotations={UNPACKED: str(layer.size)})
    config = ImageConfig(platform, (layer.diff_id,))
    manifest = Manifest(Descriptor("", layer.diff_id, layer.size), (blob,))
    return ResolvedImage(source_text, insecure=False, digests=(), manifest=manifest, config=config, seal=_SEAL)


def joined_image(images: Sequence[ResolvedImage], source_text: str) -> ResolvedImage:
    """Return one image of the layers of several: the first below, the program of the last that has one.

    It has no manifest; its identity follows from those of all.
    """
    if len(images) == 1:
        return images[0]
    identity = digest_of("\n".join(image.identity for image in images).encode())
    layers = tuple(layer for image in images for layer in image.manifest.layers)
    programs = [image.config for image in images if image.config.process != NO_PROCESS] or [images[-1].config]
    return ResolvedImage(
        source_text,
        insecure=any(image.insecure for image in images),
        digests=(),
        manifest=Manifest(Descriptor("", identity, 0), layers),
        config=replace(programs[-1], diff_ids=tuple(found for image in images for found in image.config.diff_ids)),
        seal=_SEAL,
    )


def placed_layer(diff_id: str, offset: int, placed: PlacedLayer) -> VerifiedLayer:
    """Return a layer that need not be verified, because what it was made of is."""
    return VerifiedLayer(diff_id, offset, placed.size, _SEAL, placed.left_out)


def verified_layer(diff_id: str, found: str, offset: int, size: int) -> VerifiedLayer:
    """Return the layer of data with the digest ``found``; raise ImageError if that is not the diffID."""
    if found != diff_id:
        raise ImageError(
            f"it unpacks to the diffID {found}, the image config gives {diff_id}",
            hint="build and push the image again",
        )
    return VerifiedLayer(diff_id, offset, size, _SEAL)


def verified_image(resolved: ResolvedImage, path: str, layers: Sequence[VerifiedLayer]) -> VerifiedImage:
    """Return the image with all its layers, base first; raise ValueError if they are not those of its config."""
    if tuple(layer.diff_id for layer in layers) != resolved.config.diff_ids:
        raise ValueError("layers of another image")
    return VerifiedImage(resolved, path, tuple(layers), _SEAL)
