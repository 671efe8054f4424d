"""Read extended attributes as ostree stores them: a GVariant of the type a(ayay) (GVariant Specification, 2.5)."""

from __future__ import annotations


def read_xattrs(data: bytes) -> dict[bytes, bytes]:
    """Return the values by name; raises ValueError if the data is not such an array."""
    found: dict[bytes, bytes] = {}
    start = 0
    for end in _ends(data):
        # Out of order, there is nothing between them, and that is no pair.
        name, value = _pair(data[start:end])
        found[name] = value
        start = end
    return found


def _ends(data: bytes) -> list[int]:
    """Return the ends of the elements of an array; the table of ends begins at the end of the last element."""
    if not data:
        return []
    width = _width(data)
    table = _number(data[-width:])
    if len(data) < width or not table < len(data) or (len(data) - table) % width:
        raise ValueError("has no table of elements")
    return [_number(data[place : place + width]) for place in range(table, len(data), width)]


def _pair(data: bytes) -> tuple[bytes, bytes]:
    width = _width(data)
    end = _number(data[-width:])
    if len(data) < width or not 0 < end <= len(data) - width or data[end - 1]:
        raise ValueError("has a name without an end")
    return data[: end - 1], data[end : len(data) - width]


def _width(data: bytes) -> int:
    """Return the bytes of an offset in a container: as few as its size needs."""
    return 1 if len(data) <= 0xFF else 2 if len(data) <= 0xFFFF else 4


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")
