"""Bodies as a fault leaves them: streams of bytes in, streams of bytes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from tests.lib.fault_messages import Answer, whole
from tests.lib.faults import Fault, Ranges


def changed(answer: Answer, fault: Fault) -> Answer:
    """The answer with the body that a fault makes of it, and the length of that body."""
    if fault.body is not None:
        names = {name: value for name, value in answer.headers.items() if name.lower() != "content-range"}
        answer = whole(200, fault.body, names)
    chunks, length = answer.chunks, max(0, answer.length - fault.short)
    if fault.flip is not None:
        chunks = _flipped(chunks, fault.flip - answer.start)
    if fault.short or fault.extra:
        chunks = _padded(first(chunks, length), fault.extra)
    return replace(answer, chunks=chunks, length=length + fault.extra)


def misranged(answer: Answer, start: int, ranges: Ranges) -> Answer:
    """The answer to a request from byte `start` on, as a server gives it that makes `ranges` of it."""
    if ranges is Ranges.NONE:
        return answer.with_headers({"Accept-Ranges": "none"})
    if ranges is Ranges.WRONG_HEADER and answer.status == 206:
        said = answer.headers.get("Content-Range", "").partition("-")[2]
        return answer.with_headers({"Content-Range": f"bytes 0-{said}"})
    if ranges is Ranges.WRONG_BYTES and answer.status == 200 and 0 < start < answer.length:
        rest = answer.length - start
        said = f"bytes {start}-{answer.length - 1}/{answer.length}"
        lying = replace(answer, status=206, chunks=first(answer.chunks, rest), length=rest)
        return lying.with_headers({"Content-Range": said})
    return answer


def first(chunks: Iterable[bytes], count: int) -> Iterator[bytes]:
    """The first `count` bytes."""
    for chunk in chunks:
        if count <= 0:
            return
        yield chunk[:count]
        count -= len(chunk)


def pieces(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes, at most `size` at once."""
    for chunk in chunks:
        for begin in range(0, len(chunk), size):
            yield chunk[begin : begin + size]


def _flipped(chunks: Iterable[bytes], place: int) -> Iterator[bytes]:
    for chunk in chunks:
        if 0 <= place < len(chunk):
            yield chunk[:place] + bytes([chunk[place] ^ 0xFF]) + chunk[place + 1 :]
        else:
            yield chunk
        place -= len(chunk)


def _padded(chunks: Iterable[bytes], extra: int) -> Iterator[bytes]:
    yield from chunks
    yield bytes(extra)
