"""Estimate the unpacked size of an image before the first byte of a layer is fetched.

The verified manifest states the size to fetch. The unpacked size comes from annotations or from a few bytes of each
layer, read by small parallel requests; the rest is guessed. No failure here is an error: it only leads to a guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.image.size.probe import run_probes
from bootc_live.image.size.unpacked import TYPICAL_TIMES, Basis, annotated_size, measured
from bootc_live.image.verified import ResolvedImage
from bootc_live.source.interface import AnySource, LayerCache, Peekable, StreamSource

# Requests are made for the largest layers, until they make up this part of all bytes; small layers are not worth one.
_PROBED_SHARE = 0.98
_SMALLEST_PROBED = 256 * 1024
_MOST_PROBES = 64


@dataclass(frozen=True)
class LayerEstimate:
    """One layer: bytes to fetch, bytes unpacked, the fewest that can be, and how that is known."""

    digest: str
    size: int
    unpacked: int
    least: int
    basis: Basis


@dataclass(frozen=True)
class Estimate:
    """An image's layers, base first, each once; sizes are bytes.

    ``streamed`` is set for a source that is read from start to end: all layers are there before any can be consumed.
    """

    layers: tuple[LayerEstimate, ...]
    streamed: bool = False

    @property
    def size(self) -> int:
        """The size of all layers as fetched."""
        return sum(layer.size for layer in self.layers)

    @property
    def unpacked(self) -> int:
        """The size of all layers unpacked, as far as known."""
        return sum(layer.unpacked for layer in self.layers)

    @property
    def least(self) -> int:
        """The size of all layers unpacked, if every guess is too high."""
        return sum(layer.least for layer in self.layers)

    @property
    def guessed(self) -> int:
        """The part of ``unpacked`` that is guessed."""
        return sum(layer.unpacked for layer in self.layers if layer.basis is Basis.GUESS)


def estimate(source: AnySource, image: ResolvedImage, cache: LayerCache | None = None) -> Estimate:
    """Return an estimate of an image, after a few seconds at most; failures of the source lead to guesses.

    Layers in the cache are not fetched.
    """
    # By diffID: a layer that occurs twice is fetched and kept once.
    layers = dict(zip(image.config.diff_ids, image.manifest.layers, strict=True))
    found: dict[str, tuple[Sequence[int], Basis]] = {}
    for diff_id, layer in layers.items():
        stated, kept = annotated_size(layer), cache.size(diff_id) if cache is not None else None
        if kept is not None:
            found[layer.digest] = [kept], Basis.CACHE
        elif stated is not None:
            found[layer.digest] = [stated], Basis.ANNOTATION
        elif layer.digest == diff_id and not _may_be_compressed(source, image):
            found[layer.digest] = [layer.size], Basis.PLAIN
    descriptors = list(layers.values())
    if isinstance(source, Peekable):
        found.update(_measured(source, layers_to_probe([layer for layer in descriptors if layer.digest not in found])))
    return estimated(descriptors, found, streamed=isinstance(source, StreamSource))


def _may_be_compressed(source: AnySource, image: ResolvedImage) -> bool:
    """Return whether layers may be compressed although their digest is the diffID: docker-archives name no other."""
    return image.manifest_digest is None and isinstance(source, Peekable)


def layers_to_probe(layers: Sequence[Descriptor]) -> list[Descriptor]:
    """Return the largest layers that together make up nearly all bytes, without small ones."""
    wanted = _PROBED_SHARE * sum(layer.size for layer in layers)
    chosen: list[Descriptor] = []
    for layer in sorted(layers, key=lambda layer: layer.size, reverse=True)[:_MOST_PROBES]:
        if sum(each.size for each in chosen) >= wanted or layer.size < _SMALLEST_PROBED:
            break
        chosen.append(layer)
    return chosen


def estimated(
    layers: Sequence[Descriptor], found: Mapping[str, tuple[Sequence[int], Basis]], *, streamed: bool = False
) -> Estimate:
    """Return an estimate from the sizes found, by digest and likeliest first; the rest is guessed."""
    made = []
    for layer in layers:
        sizes, basis = found.get(layer.digest) or ([math.floor(layer.size * TYPICAL_TIMES), layer.size], Basis.GUESS)
        fetched = 0 if basis is Basis.CACHE else layer.size
        made.append(LayerEstimate(layer.digest, fetched, sizes[0], min(sizes), basis))
    return Estimate(tuple(made), streamed)


def _measured(source: Peekable, layers: Sequence[Descriptor]) -> dict[str, tuple[Sequence[int], Basis]]:
    def probe(layer: Descriptor) -> tuple[Sequence[int], Basis] | None:
        return measured(layer, lambda offset, length: source.peek(layer, offset, length))

    return {layer.digest: sizes for layer, sizes in run_probes(layers, probe)}
