"""Reads compressed files of an EROFS image, and checks what the kernel relies on (fs/erofs/zmap.c).

Only what we write: full indexes, one algorithm an image, big physical clusters, inlined tails.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass

CLUSTER = 4096
PLAIN, HEAD, NONHEAD = 0, 1, 2
ALGORITHMS = {0: "lz4", 3: "zstd"}


@dataclass(frozen=True)
class Span:
    """One extent: `length` bytes of the file, in `blocks` blocks from `block` on or in `inline`; `raw` as they are."""

    length: int
    block: int
    blocks: int
    raw: bool
    inline: bytes = b""


def configurations(data: bytes, at: int, algorithms: int) -> dict[str, bytes]:
    """The settings behind the superblock, by the name of the algorithm: each after its length."""
    found = {}
    for number, name in ALGORITHMS.items():
        if algorithms >> number & 1:
            (size,) = struct.unpack_from("<H", data, at)
            found[name] = data[at + 2 : at + 2 + size]
            at += 2 + size
    assert set(found) == {name for number, name in ALGORITHMS.items() if algorithms >> number & 1}
    return found


def unpacked(algorithm: str, packed: bytes, size: int) -> bytes:
    """`size` bytes by the C libraries; zeros in front of `packed` are skipped, as the kernel does."""
    source, room = packed.lstrip(b"\0"), ctypes.create_string_buffer(size)
    if algorithm == "lz4":
        count = ctypes.CDLL("liblz4.so.1").LZ4_decompress_safe(source, room, len(source), size)
    else:
        call = ctypes.CDLL("libzstd.so.1").ZSTD_decompress
        call.restype, call.argtypes = ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_size_t] * 2
        count = call(room, size, source, len(source))
    assert count == size, f"{len(source)} bytes of {algorithm} gave {count}, not {size}"
    return room.raw


class Compressed:
    """One compressed file: its extents in order."""

    def __init__(self, data: bytes, after: int, size: int, algorithms: int) -> None:
        """`after` is where its inode ends with its attributes."""
        self._data = data
        at = -(-after // 8) * 8
        fragment, tail, advise, algorithm, bits = struct.unpack_from("<HHHBB", data, at)
        assert (fragment, bits, data[at + 8 : at + 16]) == (0, 0, bytes(8)), "a map header with more than we write"
        assert advise == (0xA if tail else 0x2), f"advise {advise:#x}"
        assert algorithms == 1 << algorithm, "an algorithm that the superblock does not name"
        self._algorithm = ALGORITHMS[algorithm]
        count = -(-size // CLUSTER)
        entries = [struct.unpack_from("<HHI", data, at + 16 + 8 * number) for number in range(count)]
        self.end = at + 16 + 8 * count
        inline = data[self.end : self.end + tail]
        assert self.end % CLUSTER + tail <= CLUSTER, "an inlined tail crosses a block"
        self.spans = _spans(entries, size, inline)
        self.inlined = bool(tail)

    def blocks(self) -> list[tuple[int, int]]:
        """(first, number) of all blocks."""
        return [(span.block, span.blocks) for span in self.spans if span.blocks]

    def content(self) -> bytes:
        """The file."""
        return b"".join(map(self._bytes, self.spans))

    def _bytes(self, span: Span) -> bytes:
        stored = span.inline or self._data[span.block * CLUSTER : (span.block + span.blocks) * CLUSTER]
        if span.raw:
            assert stored[span.length :].strip(b"\0") == b"", "something behind raw data"
            return stored[: span.length]
        assert len(stored) < span.length, "what does not become smaller is not to be compressed"
        return unpacked(self._algorithm, stored, span.length)


def _spans(entries: list[tuple[int, int, int]], size: int, inline: bytes) -> list[Span]:
    spans, number = [], 0
    while number < len(entries):
        kind, offset, block = entries[number]
        assert offset == 0, "an extent begins within a cluster"
        if kind == PLAIN:
            spans.append(Span(min(CLUSTER, size - number * CLUSTER), block, 1, raw=True))
            number += 1
            continue
        assert kind == HEAD, f"type {kind} where an extent begins"
        last = number + 1
        while last < len(entries) and entries[last][0] == NONHEAD:
            last += 1
        end, blocks = _end(entries, last, size), 1
        for back, (_, _, deltas) in enumerate(entries[number + 1 : last], 1):
            first, ahead = deltas & 0xFFFF, deltas >> 16
            assert ahead == (end // CLUSTER) - number - back, "the way ahead is wrong"
            if back == 1:
                assert first & 0x800, "the first has no number of blocks"
                blocks = first & 0x7FF
                assert blocks >= 1
            else:
                assert first == back, "the way back is wrong"
        tailing = bool(inline) and end == size
        length = end - number * CLUSTER
        spans.append(Span(length, block, 0 if tailing else blocks, raw=False, inline=inline if tailing else b""))
        number = -(-end // CLUSTER)
    assert sum(span.length for span in spans) == size
    return spans


def _end(entries: list[tuple[int, int, int]], last: int, size: int) -> int:
    """Where an extent ends whose clusters end before entry `last`."""
    if last == len(entries):
        return min(last * CLUSTER, size)
    kind, offset, block = entries[last]
    if offset:
        assert (kind, block, last) == (PLAIN, 0, len(entries) - 1), "an extent begins within a cluster"
        assert last * CLUSTER + offset == size, "the end is told wrongly"
    return last * CLUSTER + offset
