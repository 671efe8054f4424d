"""Read the bodies of responses, and give up those that stop or are too slow."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator

import requests

from bootc_live.base.errors import SourceError
from bootc_live.formats.oci.manifest import MANIFEST_LIMIT
from bootc_live.source.http.errors import BROKEN, broken_off
from bootc_live.source.interface import CHUNK

# A transfer with fewer bytes per second has stalled.
SLOWEST = 1024
# No JSON document begins with these bytes (RFC 1952, 2.3.1).
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


def read_body(
    response: requests.Response,
    source_text: str,
    stall: float,
    arrived: Callable[[int], None],
    expected: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    *,
    begin: Callable[[], None] | None = None,
) -> Iterator[bytes]:
    """Yield the bytes of a response as the server stores them, in chunks of at most 1 MiB.

    Raise TransientError if the transfer breaks off, or if fewer than 1 KiB/s arrive during ``stall`` seconds of
    waiting; the time between reads does not count. ``arrived`` gets the size of each chunk. ``expected`` is the size
    of a response whose headers do not give one. ``begin`` starts the deadline of the next chunk.
    """
    has_end = response.headers.get("Content-Length") or "chunked" in response.headers.get("Transfer-Encoding", "")
    waited, recent, total = 0.0, 0, 0
    while True:
        began = clock()
        if begin is not None:
            begin()
        try:
            chunk: bytes = response.raw.read1(CHUNK, decode_content=False)
        except BROKEN as error:
            raise broken_off(source_text, response.url, error) from error
        waited += clock() - began
        recent += len(chunk)
        total += len(chunk)
        if not chunk:
            break
        arrived(len(chunk))
        yield chunk
        if waited >= stall:
            if recent < SLOWEST * stall:
                raise broken_off(source_text, response.url, f"only {recent} bytes arrived in {waited:.0f} s")
            waited, recent = 0.0, 0
    if not has_end and expected is not None and total < expected:
        raise broken_off(source_text, response.url, f"it ended after {total} of {expected} bytes")


def read_limited(chunks: Iterator[bytes]) -> bytes:
    """Return the joined chunks, up to the first one that exceeds the size limit of a document."""
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > MANIFEST_LIMIT:
            break
    return bytes(content)


def decode_document(content: bytes, name: str) -> bytes:
    """Return a JSON document, decompressed if it is in gzip; raise SourceError.

    The Content-Encoding header is ignored: some proxies compress without it, others set it without compressing.
    """
    document = content
    if content.startswith(_GZIP):
        inflater = zlib.decompressobj(_GZIP_WINDOW)
        try:
            document = inflater.decompress(content, MANIFEST_LIMIT + 1)
        except zlib.error as error:
            raise SourceError(f"the gzip data of {name} is damaged: {error}", hint="check the server") from error
        if len(document) <= MANIFEST_LIMIT and (not inflater.eof or inflater.unused_data):
            raise SourceError(f"the gzip data of {name} is incomplete, or has trailing data", hint="check the server")
    if max(len(content), len(document)) > MANIFEST_LIMIT:
        raise SourceError(
            f"{name} has more than {MANIFEST_LIMIT} bytes", hint="check that the reference names a container image"
        )
    return document
