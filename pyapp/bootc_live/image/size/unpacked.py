"""How large a layer is once it is unpacked, as far as a few bytes of it tell. Pure: bytes in, sizes out.

None of this is verified: annotations are the word of whoever built the image, and a compressed stream's own figures
that of whoever packed it. A wrong one makes an estimate wrong, nothing else.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum

from bootc_live.base.errors import SourceError
from bootc_live.base.numbers import LARGEST_SIZE, decimal
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.system.inflate import GZIP, ZSTD, compressed

# eStargz (stargz-snapshotter, BuildKit, containers/storage) and umoci say it in the layer's descriptor.
ANNOTATIONS = ("io.containers.estargz.uncompressed-size", "ci.umo.uncompressed_blob_size")
# Layers of real systems unpack to 1.5 to 4 times their size; what lies beyond this is another figure.
MOST_TIMES = 20
# What gzip makes of the layers of Debian and Fedora systems, median.
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
    GUESS = "guessed"


def annotated_size(layer: Descriptor) -> int | None:
    """Give the size that an annotation of the layer's descriptor states, where one does and it can be true."""
    for name in ANNOTATIONS:
        with suppress(ValueError):
            stated = decimal(layer.annotations.get(name, ""), limit=LARGEST_SIZE)
            if stated >= layer.size:
                return stated
    return None


def trailer_sizes(trailer: bytes, size: int) -> list[int]:
    """Give the plausible sizes that a gzip file of ``size`` bytes with these last four unpacks to, likeliest first.

    The field counts modulo 4 GiB and, where the file has several members, the last of them alone; none of the sizes is
    plausible then, as a rule.
    """
    if len(trailer) != TRAILER:
        return []
    least: int = struct.unpack("<I", trailer)[0]
    found = range(least, MOST_TIMES * size + 1, _WRAPS)
    expected = math.log(TYPICAL_TIMES * max(size, 1))
    return sorted((each for each in found if each >= size), key=lambda each: abs(math.log(each) - expected))


def frame_size(head: bytes, size: int) -> int | None:
    """Give the content size that the first frame of a zstd file of ``size`` bytes states (RFC 8878, 3.1.1.1).

    None where it states none, and where it is too small or too large to be that of the whole file.
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
    """Look at a layer's first or last bytes and give its plausible sizes, likeliest first; None where they tell none.

    ``peek`` gives a number of its bytes from an offset on, and may raise SourceError. Where the media type is right one
    look does.
    """
    if layer.size < HEADER:
        return [layer.size], Basis.PLAIN
    if "gzip" in layer.media_type:
        sizes = trailer_sizes(peek(layer.size - TRAILER, TRAILER), layer.size)
        if sizes:
            return sizes, Basis.TRAILER
    head = peek(0, HEADER)
    if len(head) != HEADER:
        raise SourceError(f"layer {layer.digest} cannot be looked at", hint="this is not needed")
    if head.startswith(GZIP):
        again = "gzip" not in layer.media_type
        sizes = trailer_sizes(peek(layer.size - TRAILER, TRAILER), layer.size) if again else []
        return (sizes, Basis.TRAILER) if sizes else None
    if compressed(head):
        found = frame_size(head, layer.size)
        return None if found is None else ([found], Basis.FRAME)
    return [layer.size], Basis.PLAIN
