"""An image that is small on the wire and 10 GiB large inflated."""

from __future__ import annotations

import gzip
from functools import cache
from typing import Final

from tests.lib.oci_writer import Compression, Image, Layer, compress
from tests.lib.tar_writer import Header, end

SIZE: Final = 10 << 30
_PIECE: Final = 64 << 20
# Of the whole tar; computing it takes longer than all tests that use it.
DIFF_ID: Final = "sha256:252acc411eac524e02f64e36d6760b373b289d3fcc9c85abf8b4b0e9792b5c5d"


def _packed(data: bytes, how: Compression) -> bytes:
    return gzip.compress(data, 9, mtime=0) if how == "gzip" else compress(data, how)


@cache
def bomb(how: Compression) -> Image:
    """One layer with one file of 10 GiB of zeros, all digests right; about 10 MiB of gzip, less of zstd.

    The blob is made of one compressed piece over and over: both formats let a stream have many members or frames.
    """
    head = Header(b"zeros", size=SIZE).encode()
    pieces = [_packed(head, how), _packed(bytes(_PIECE), how) * (SIZE // _PIECE), _packed(end(), how)]
    return Image([Layer(compression=how, blob=b"".join(pieces), diff_id=DIFF_ID)])
