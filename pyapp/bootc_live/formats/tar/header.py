"""Fields of tar headers: ustar and pax (POSIX.1-2024 pax), GNU (tar(5)), and v7."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)
HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
# The shared value of all files without attributes.
NO_XATTRS: Mapping[bytes, bytes] = MappingProxyType({})
_ADLER = 65521
_NANO = 1_000_000_000
_LENGTH_DIGITS = 20
_TIME = re.compile(rb"(-?)([0-9]{1,64})(?:\.([0-9]*))?\Z")
# Some old tars write blanks and NULs before the digits. After the digits come blanks, then NUL or the end.
_OCTAL = re.compile(rb"[\s\0]*+([0-7]*)\s*+(?:\0|\Z)")
_NO_NUL = frozenset({b"path", b"linkpath", b"uname", b"gname", b"GNU.sparse.name"})


def checksum_matches(header: bytes, field: bytes) -> bool:
    """Return whether the checksum field of a header is the sum of its bytes; some old tars sum signed bytes.

    The low half of adler32 is 1 plus the sum of the bytes modulo 65521, and computed in C. A sum of 512 bytes exceeds
    the modulus at most once, so damage is still detected.
    """
    try:
        given = number(field)
    except ValueError:
        return False
    found = (zlib.adler32(header) & 0xFFFF) - 1 - sum(field) + 8 * 0x20
    if (found - given) % _ADLER == 0:
        return True
    negative = sum(byte >= 0x80 for byte in header) - sum(byte >= 0x80 for byte in field)
    return (found - 256 * negative - given) % _ADLER == 0


def number(field: bytes) -> int:
    """Read a numeric field: octal, or base-256 if the first bit is set (GNU). Raises ValueError."""
    first = field[0]
    if first & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (len(field) * 8 - 1)) - 1)
        if first & 0x40:
            value -= 1 << (len(field) * 8 - 1)
        return value
    digits = field.rstrip(b" \0")
    if digits.isdigit() and b"8" not in digits and b"9" not in digits:
        # What all common tars write, without the regular expression.
        return int(digits, 8)
    match = _OCTAL.match(field)
    if match is None:
        raise ValueError(f"a field of a tar header is not an octal number: {field!r}")
    return int(match[1], 8) if match[1] else 0


# Most headers of a tar have the same modes, owners and times.
known_number = lru_cache(maxsize=1024)(number)


def text(field: bytes) -> bytes:
    """Return a text field up to its NUL."""
    return field.partition(b"\0")[0]


def pax_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Split the body of a pax header into (keyword, value) in order. Raises ValueError, also for NUL bytes in names."""
    records, position = [], 0
    while position < len(data):
        space = data.find(b" ", position, position + _LENGTH_DIGITS)
        digits = data[position:space]
        if space < 0 or not digits.isdigit():
            raise ValueError("a pax record has no length")
        end = position + int(digits)
        record = data[space + 1 : end]
        keyword, equals, value = record[:-1].partition(b"=")
        if end > len(data) or not record.endswith(b"\n") or not equals or not keyword:
            raise ValueError("a pax record is damaged")
        if b"\0" in keyword or (keyword in _NO_NUL and b"\0" in value):
            raise ValueError(f"a pax record has a NUL byte in a name: {keyword[:80]!r}")
        records.append((keyword, value))
        position = end
    return records


def timestamp(value: bytes) -> tuple[int, int]:
    """Read a pax time as (seconds, nanoseconds), nanoseconds counting forward; raises ValueError."""
    match = _TIME.match(value)
    if match is None:
        raise ValueError(f"a pax time is not a number: {value!r}")
    nano = int(match[3][:9].ljust(9, b"0")) if match[3] else 0
    exact = int(match[2]) * _NANO + nano
    return divmod(-exact if match[1] else exact, _NANO)
