"""PE files with given sections."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_ALIGNMENT = 512
_OPTIONAL = 240


def pe_file(sections: Sequence[tuple[str, bytes]]) -> bytes:
    """A PE file as ukify lays it out: data padded to 512 bytes, true sizes as VirtualSize."""
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    head += struct.pack("<4sHH12xHH", b"PE\0\0", 0x8664, len(sections), _OPTIONAL, 0x22) + bytes(_OPTIONAL)
    offset = _padded(len(head) + 40 * len(sections))
    table = data = b""
    for name, content in sections:
        raw = _padded(len(content))
        table += struct.pack("<8sIIII16x", name.encode(), len(content), 0x1000, raw, offset + len(data))
        data += content.ljust(raw, b"\0")
    return (head + table).ljust(offset, b"\0") + data


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
