"""Find the unpacked size of a layer from its annotations or a few of its bytes.

None of this is verified: the builder of the image wrote it. A wrong size only makes the estimate wrong.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum

from bootc_live.base.errors import SourceError
from bootc_live.base.numbers import LARGEST_SIZE, decimal
from bootc_live.formats.oci.descriptor import UNPACKED, Descriptor
from bootc_live.system.inflate.gzip import GZIP
from bootc_live.system.inflate.streams import compression
from bootc_live.system.inflate.zstd import ZSTD

# Set in the layer's descriptor by eStargz (stargz-snapshotter, BuildKit, containers/storage) and umoci.
ANNOTATIONS = ("io.containers.estargz.uncompressed-size", UNPACKED)
# Layers of real systems unpack to 1.5 to 4 times their size; a larger figure is not believed.
MOST_TIMES = 20
# The median for gzip layers of Debian and Fedora systems.
TYPICAL_TIMES = 2.4
# Of the gzip trailer's size field (RFC 1952, 2.3.1, ISIZE).
_WRAPS = 2**32
TRAILER = 4
# The longest header of a zstd frame, with its magic number (RFC 8878, 3.1.1).
HEADER = 18

Peek = Callable[[int, int], bytes]


class Basis(StrEnum):
    """How an unpacked size is known."""

    ANNOTATION = "annotation"
    TRAILER = "gzip trailer"
    FRAME = "zstd header"
    PLAIN = "plain tar"
    CACHE = "cache"
    GUESS = "guessed"


def annotated_size(layer: Descriptor) -> int | None:
    """Return the size that an annotation of the layer's descriptor states, if there is one that can be true."""
    for name in ANNOTATIONS:
        with suppress(ValueError):
            stated = decimal(layer.annotations.get(name, ""), limit=LARGEST_SIZE)
            if stated >= layer.size:
                return stated
    return None


def trailer_sizes(trailer: bytes, size: int) -> list[int]:
    """Return the plausible unpacked sizes of a gzip file of ``size`` bytes with these last four, likeliest first.

    The field counts modulo 4 GiB and, in a file of several members, only the last one: then usually none is plausible.
    """
    if len(trailer) != TRAILER:
        return []
    least: int = struct.unpack("<I", trailer)[0]
    found = range(least, MOST_TIMES * size + 1, _WRAPS)
    expected = math.log(TYPICAL_TIMES * max(size, 1))
    return sorted((each for each in found if each >= size), key=lambda each: abs(math.log(each) - expected))


def frame_size(head: bytes, size: int) -> int | None:
    """Return the content size in the first frame of a zstd file of ``size`` bytes (RFC 8878, 3.1.1.1).

    None if there is none, or if it is too small or too large for the whole file.
    """
    if len(head) <= len(ZSTD) or not head.startswith(ZSTD):
        return None
    descriptor = head[len(ZSTD)]
    single = bool(descriptor & 0x20)
    length = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    begin = len(ZSTD) + 1 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3]
    field = head[begin : begin + length]
    if not length or len(field) != length:
        return None
    found = int.from_bytes(field, "little") + (256 if length == 2 else 0)
    return found if size <= found <= MOST_TIMES * size else None


def measured(layer: Descriptor, peek: Peek) -> tuple[list[int], Basis] | None:
    """Return a layer's plausible sizes, likeliest first, from its first or last bytes; None if they do not show it.

    ``peek`` returns a number of bytes from an offset on, and may raise SourceError. One call is enough if the media
    type is right.
    """
    if layer.size < HEADER:
        return [layer.size], Basis.PLAIN
    if "gzip" in layer.media_type:
        sizes = trailer_sizes(peek(layer.size - TRAILER, TRAILER), layer.size)
        if sizes:
            return sizes, Basis.TRAILER
    head = peek(0, HEADER)
    if len(head) != HEADER:
        raise SourceError(f"layer {layer.digest} cannot be read in part", hint="its size is guessed")
    if head.startswith(GZIP):
        again = "gzip" not in layer.media_type
        sizes = trailer_sizes(peek(layer.size - TRAILER, TRAILER), layer.size) if again else []
        return (sizes, Basis.TRAILER) if sizes else None
    if compression(head) is not None:
        found = frame_size(head, layer.size)
        return None if found is None else ([found], Basis.FRAME)
    return [layer.size], Basis.PLAIN
