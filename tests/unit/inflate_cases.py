"""Compressed streams and what must come of them, for every program that can inflate them."""

from __future__ import annotations

import ctypes
import gzip
import os
import struct
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from bootc_live.system.inflate.gzip import GzipDecoder
from tests.lib.needs import need

RANDOM: Final = os.urandom(300_000)
TEXT: Final = b"".join(b"line %d of a tar that compresses well\n" % number for number in range(60_000))


@dataclass(frozen=True)
class Stream:
    """A compressed stream. `plain` is None where it must be refused."""

    name: str
    data: bytes
    plain: bytes | None


def stored(data: bytes) -> bytes:
    """A gzip member without compression."""
    packer = zlib.compressobj(0, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def with_header_fields(data: bytes, flags: int = 0x1E) -> bytes:
    """A gzip member that has the optional fields of RFC 1952: extra, name, comment and a header checksum."""
    head = b"\x1f\x8b\x08" + struct.pack("<BIBB", flags, 1_600_000_000, 0, 3)
    fields = {4: struct.pack("<H", 6) + b"AB\x02\x00xy", 8: b"layer.tar\0", 16: b"a comment\0"}
    head += b"".join(field for flag, field in fields.items() if flags & flag)
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF) if flags & 2 else b""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(data) + packer.flush()
    return head + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def flipped(data: bytes, at: int) -> bytes:
    """The data with one byte changed."""
    changed = bytearray(data)
    changed[at] ^= 0x55
    return bytes(changed)


_PACKED: Final = gzip.compress(TEXT, 6, mtime=0)

GZIP: Final = (
    Stream("text", _PACKED, TEXT),
    Stream("random", gzip.compress(RANDOM, 1, mtime=0), RANDOM),
    Stream("stored", stored(RANDOM), RANDOM),
    Stream("empty", gzip.compress(b"", mtime=0), b""),
    Stream("one-byte", gzip.compress(b"x", mtime=0), b"x"),
    Stream("all-header-fields", with_header_fields(TEXT), TEXT),
    Stream("two-members", gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0), b"onetwo"),
    Stream(
        "many-members", b"".join(gzip.compress(TEXT[at : at + 997]) for at in range(0, 997 * 51, 997)), TEXT[: 997 * 51]
    ),
    Stream(
        "empty-members-between", gzip.compress(b"") + _PACKED + gzip.compress(b"") + gzip.compress(b"z"), TEXT + b"z"
    ),
    Stream("zeros-behind", _PACKED + bytes(1024), TEXT),
    Stream("one-zero-behind", _PACKED + b"\0", TEXT),
    Stream("garbage-behind", _PACKED + b"garbage" * 100, TEXT),
    Stream("garbage-that-looks-like-a-member-at-first", _PACKED + b"\x1fx", TEXT),
    Stream("without-its-trailer", _PACKED[:-8], None),
    Stream("without-its-last-byte", _PACKED[:-1], None),
    Stream("cut-in-half", _PACKED[: len(_PACKED) // 2], None),
    Stream("header-alone", _PACKED[:10], None),
    Stream("half-a-header", _PACKED[:6], None),
    Stream("second-member-of-two-bytes", _PACKED + _PACKED[:2], None),
    Stream("second-member-cut", _PACKED + _PACKED[:100], None),
    Stream("wrong-checksum", flipped(_PACKED, -6), None),
    Stream("wrong-length", flipped(_PACKED, -2), None),
    Stream("wrong-byte-inside", flipped(_PACKED, len(_PACKED) // 2), None),
    Stream("unknown-method", b"\x1f\x8b\x07" + _PACKED[3:], None),
)


def in_two_pieces(flags: int) -> Iterator[bytes]:
    """What two members with these header fields decode to, cut at every byte."""
    whole = with_header_fields(b"one", flags) + with_header_fields(b"two", flags)
    for cut_at in range(1, len(whole)):
        decoder = GzipDecoder(ctypes.create_string_buffer(4096))
        pieces = (memoryview(bytearray(part)) for part in (whole[:cut_at], whole[cut_at:]))
        yield b"".join(bytes(out) for piece in pieces for out in decoder.decode(piece))
        decoder.end()


def zstd(data: bytes, *options: str) -> bytes:
    """A zstd frame, made by the zstd program."""
    need("zstd")
    return subprocess.run(["zstd", "-q", "-c", *options], input=data, stdout=subprocess.PIPE, check=True).stdout


def skippable(number: int, data: bytes) -> bytes:
    """A frame that decoders pass over (RFC 8878, 3.1.2)."""
    return struct.pack("<II", 0x184D2A50 + number, len(data)) + data


ZSTD: Final = (
    *("text", "random", "empty", "no-checksum", "long-window", "two-frames", "many-frames"),
    *("skippable-first", "skippable-last", "skippable-everywhere", "cut-in-half", "without-its-last-byte"),
    *("second-frame-cut", "garbage-behind", "wrong-checksum", "wrong-byte-inside"),
)


@cache
def zstd_stream(name: str) -> Stream:
    """The stream for zstd of that name, of ZSTD."""
    streams = {stream.name: stream for stream in _zstd_streams()}
    assert tuple(streams) == ZSTD
    return streams[name]


@cache
def _zstd_streams() -> tuple[Stream, ...]:
    return tuple(_made_by_zstd())


def _made_by_zstd() -> Iterator[Stream]:
    frame, small = zstd(TEXT), zstd(b"small")
    yield Stream("text", frame, TEXT)
    yield Stream("random", zstd(RANDOM), RANDOM)
    yield Stream("empty", zstd(b""), b"")
    yield Stream("no-checksum", zstd(TEXT, "--no-check"), TEXT)
    yield Stream("long-window", zstd(TEXT, "--long=27"), TEXT)
    yield Stream("two-frames", frame + small, TEXT + b"small")
    yield Stream("many-frames", b"".join(zstd(TEXT[at : at + 9_000]) for at in range(0, 90_000, 9_000)), TEXT[:90_000])
    yield Stream("skippable-first", skippable(0, b"table of contents") + frame, TEXT)
    yield Stream("skippable-last", frame + skippable(15, b"x" * 5000), TEXT)
    yield Stream("skippable-everywhere", skippable(7, b"") + frame + skippable(1, b"y") + small, TEXT + b"small")
    yield Stream("cut-in-half", frame[: len(frame) // 2], None)
    yield Stream("without-its-last-byte", frame[:-1], None)
    yield Stream("second-frame-cut", frame + small[:-1], None)
    yield Stream("garbage-behind", frame + b"garbage", None)
    yield Stream("wrong-checksum", flipped(frame, -1), None)
    yield Stream("wrong-byte-inside", flipped(frame, len(frame) // 2), None)


def cut(data: bytes, step: int) -> Iterator[bytes]:
    """The data in chunks of `step` bytes."""
    return (data[at : at + step] for at in range(0, len(data), step))
