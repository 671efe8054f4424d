"""Small answers of servers that compress what they send, whatever they were asked for."""

from __future__ import annotations

import zlib

from bootc_live.base.errors import SourceError
from bootc_live.formats.oci.manifest import MANIFEST_LIMIT

# No JSON begins like this (RFC 1952, 2.3.1).
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


def plain(content: bytes, what: str) -> bytes:
    """Return the JSON document that an answer is, out of gzip where it came in gzip; raise SourceError.

    Its header is not asked: proxies compress without saying so, and say so without compressing.
    """
    if not content.startswith(_GZIP):
        return content
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    try:
        document = inflater.decompress(content, MANIFEST_LIMIT + 1)
    except zlib.error as error:
        raise SourceError(f"{what} is compressed, and damaged: {error}", hint="check the server") from error
    if len(document) > MANIFEST_LIMIT:
        raise SourceError(
            f"{what} has more than {MANIFEST_LIMIT} bytes", hint="check that the reference names a container image"
        )
    if not inflater.eof or inflater.unused_data:
        raise SourceError(f"{what} is compressed, and cut short or followed by more", hint="check the server")
    return document
