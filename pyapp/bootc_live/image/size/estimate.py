"""What an image will take once it is unpacked, before the first byte of a layer is fetched.

The verified manifest says how much there is to fetch. How much that unpacks to, annotations say, or a few bytes of each
layer, read by small requests side by side; what cannot be had that way is guessed. Nothing that goes wrong here is an
error: it makes a guess of a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.image.size.probe import run_probes
from bootc_live.image.size.unpacked import TYPICAL_TIMES, Basis, annotated_size, measured
from bootc_live.image.verified import ResolvedImage
from bootc_live.source.interface import AnySource, Peekable, StreamSource

# Of all that is to be fetched, and bytes of a layer; what is less is not worth a request.
_WORTH_A_LOOK = 0.98
_LEAST_LAYER = 256 * 1024
_MOST_LOOKS = 64
# From which part of all bytes on the layers that were measured say how the others are packed.
_TELLING = 0.25


@dataclass(frozen=True)
class LayerEstimate:
    """One layer: bytes to fetch, bytes unpacked and how that is known, and the fewest they can be."""

    digest: str
    size: int
    unpacked: int
    least: int
    basis: Basis


@dataclass(frozen=True)
class Estimate:
    """An image's layers, base first, each once; sizes are bytes.

    ``streamed`` is for a source that is read from front to back: all layers are there before any can be worked on.
    """

    layers: tuple[LayerEstimate, ...]
    streamed: bool = False

    @property
    def size(self) -> int:
        """All that is to be fetched."""
        return sum(layer.size for layer in self.layers)

    @property
    def unpacked(self) -> int:
        """What the layers' tars will take together, as far as known."""
        return sum(layer.unpacked for layer in self.layers)

    @property
    def least(self) -> int:
        """What the tars will take even if all that is guessed turns out smaller."""
        return sum(layer.least for layer in self.layers)

    @property
    def guessed(self) -> int:
        """The part of ``unpacked`` that is guessed."""
        return sum(layer.unpacked for layer in self.layers if layer.basis is Basis.GUESS)

    @property
    def packing(self) -> float | None:
        """What compression made of the layers that are compressed and measured; None where there are none."""
        return _packing(self.layers)


def estimate(source: AnySource, image: ResolvedImage) -> Estimate:
    """Estimate an image; it takes a few seconds at the most, and raises nothing where the source cannot tell."""
    # By diffID: a layer that stands twice is fetched and kept once.
    layers = dict(zip(image.config.diff_ids, image.manifest.layers, strict=True))
    found: dict[str, tuple[Sequence[int], Basis]] = {}
    for diff_id, layer in layers.items():
        stated = annotated_size(layer)
        if stated is not None:
            found[layer.digest] = [stated], Basis.ANNOTATION
        elif layer.digest == diff_id and not _may_be_packed(source, image):
            found[layer.digest] = [layer.size], Basis.PLAIN
    descriptors = list(layers.values())
    if isinstance(source, Peekable):
        found.update(_measured(source, worth_a_look([layer for layer in descriptors if layer.digest not in found])))
    return estimated(descriptors, found, streamed=isinstance(source, StreamSource))


def _may_be_packed(source: AnySource, image: ResolvedImage) -> bool:
    """Tell whether layers may be compressed though their digest is the diffID: docker-archives name no other."""
    return image.manifest_digest is None and isinstance(source, Peekable)


def worth_a_look(layers: Sequence[Descriptor]) -> list[Descriptor]:
    """Give the largest layers, as many as make up nearly all of the bytes; small ones are none of them."""
    wanted = _WORTH_A_LOOK * sum(layer.size for layer in layers)
    chosen: list[Descriptor] = []
    for layer in sorted(layers, key=lambda layer: layer.size, reverse=True)[:_MOST_LOOKS]:
        if sum(each.size for each in chosen) >= wanted or layer.size < _LEAST_LAYER:
            break
        chosen.append(layer)
    return chosen


def estimated(
    layers: Sequence[Descriptor], found: Mapping[str, tuple[Sequence[int], Basis]], *, streamed: bool = False
) -> Estimate:
    """Make an estimate of the sizes found, by digest and likeliest first; what is not among them is guessed."""
    known = {
        layer.digest: LayerEstimate(layer.digest, layer.size, sizes[0], min(sizes), basis)
        for layer in layers
        if layer.digest in found
        for sizes, basis in [found[layer.digest]]
    }
    packing = _packing(list(known.values()))
    telling = sum(layer.size for layer in known.values()) >= _TELLING * sum(layer.size for layer in layers)
    times = 1 / packing if packing is not None and telling else TYPICAL_TIMES
    return Estimate(tuple(known.get(layer.digest) or _guess(layer, times) for layer in layers), streamed)


def _guess(layer: Descriptor, times: float) -> LayerEstimate:
    return LayerEstimate(layer.digest, layer.size, math.floor(layer.size * times), layer.size, Basis.GUESS)


def _packing(layers: Sequence[LayerEstimate]) -> float | None:
    packed = [layer for layer in layers if layer.basis not in (Basis.PLAIN, Basis.GUESS)]
    unpacked = sum(layer.unpacked for layer in packed)
    return sum(layer.size for layer in packed) / unpacked if unpacked else None


def _measured(source: Peekable, layers: Sequence[Descriptor]) -> dict[str, tuple[Sequence[int], Basis]]:
    def look(layer: Descriptor) -> tuple[Sequence[int], Basis] | None:
        return measured(layer, lambda offset, length: source.peek(layer, offset, length))

    return {layer.digest: sizes for layer, sizes in run_probes(layers, look)}
