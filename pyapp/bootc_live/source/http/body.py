"""Bodies of answers, read as they come: one that stops or trickles is given up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import requests

from bootc_live.base.errors import SourceError
from bootc_live.formats.oci.manifest import MANIFEST_LIMIT
from bootc_live.source.http.errors import BROKEN, broken_off
from bootc_live.source.interface import CHUNK

# Bytes a second below which a transfer counts as standing still.
SLOWEST = 1024


def body(
    response: requests.Response,
    typed: str,
    stall: float,
    arrived: Callable[[int], None],
    expected: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    *,
    begin: Callable[[], None] | None = None,
) -> Iterator[bytes]:
    """Return the bytes of an answer as the server stored them, in pieces of at most 1 MiB.

    Raise TransientError where they break off, or where fewer than 1 KiB a second come over ``stall`` seconds of
    waiting; the time the reader takes for itself does not count. ``arrived`` hears of every piece's size. ``expected``
    is how many bytes there should be, for answers whose end says nothing: those that only closing the connection ends.
    ``begin`` starts the time within which the next piece must be complete, whatever else comes meanwhile.
    """
    promised = response.headers.get("Content-Length", "")
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "")
    waited, came, total = 0.0, 0, 0
    while True:
        began = clock()
        if begin is not None:
            begin()
        try:
            piece: bytes = response.raw.read1(CHUNK, decode_content=False)
        except BROKEN as error:
            raise broken_off(typed, response.url, error) from error
        waited += clock() - began
        came += len(piece)
        total += len(piece)
        if not piece:
            break
        arrived(len(piece))
        yield piece
        if waited >= stall:
            if came < SLOWEST * stall:
                raise broken_off(typed, response.url, f"only {came} bytes came in {waited:.0f} s")
            waited, came = 0.0, 0
    if not promised and not chunked and expected is not None and total < expected:
        raise broken_off(typed, response.url, f"it ended after {total} of {expected} bytes")


def limited(chunks: Iterator[bytes], typed: str, what: str) -> Iterator[bytes]:
    """Pass the pieces of ``what`` (such as a manifest) on; raise SourceError where there are too many bytes of it."""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > MANIFEST_LIMIT:
            raise SourceError(
                f"the registry answers {typed!r} with {what} of more than {MANIFEST_LIMIT} bytes",
                hint="check that the reference names a container image",
            )
        yield chunk
