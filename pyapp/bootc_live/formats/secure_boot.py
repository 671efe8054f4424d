"""Variables of firmware that say whom it trusts, as files that it accepts (UEFI specification, 8.2.2 and 32.4.1)."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from uuid import UUID

_X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_PKCS7 = UUID("4aafd29d-68df-49ee-8aa9-347d375665a7")
_GLOBAL = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
_DATABASE = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
# Non-volatile, for boot services and at runtime, with a signature and a time.
_ATTRIBUTES = 0x27
# Year to second; the rest is zero, and has to be.
_TIME = struct.Struct("<HBBBBB9x")
_REVISION, _TYPE = 0x0200, 0x0EF1


def signature_list(certificate: bytes, owner: UUID) -> bytes:
    """Return a list with one certificate (DER)."""
    entry = owner.bytes_le + certificate
    return _X509.bytes_le + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry


def signed_part(name: str, time: datetime, content: bytes) -> bytes:
    """Return what has to be signed so that a variable gets a content: ``PK``, ``KEK`` or ``db``."""
    vendor = _DATABASE if name == "db" else _GLOBAL
    return name.encode("utf-16-le") + vendor.bytes_le + struct.pack("<I", _ATTRIBUTES) + _time(time) + content


def authenticated(time: datetime, signature: bytes, content: bytes) -> bytes:
    """Return the file: a content with its signature, which is a detached PKCS#7 message (DER)."""
    body = _PKCS7.bytes_le + _signed_data(signature)
    return _time(time) + struct.pack("<IHH", 8 + len(body), _REVISION, _TYPE) + body + content


def _time(time: datetime) -> bytes:
    return _TIME.pack(*time.astimezone(UTC).timetuple()[:6])


def _signed_data(message: bytes) -> bytes:
    """Return the SignedData in a ContentInfo (RFC 2315): a sequence of an object identifier and a tagged value."""
    return _value(_after(_value(message)))


def _value(data: bytes) -> bytes:
    at, size = _header(data)
    return data[at : at + size]


def _after(data: bytes) -> bytes:
    at, size = _header(data)
    return data[at + size :]


def _header(data: bytes) -> tuple[int, int]:
    """Return where the first value in data begins, and its size."""
    if not data[1] & 0x80:
        return 2, data[1]
    count = data[1] & 0x7F
    return 2 + count, int.from_bytes(data[2 : 2 + count], "big")
