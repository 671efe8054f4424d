"""The sections of PE files (PE/COFF specification, 3 to 4), and what makes one a unified kernel image."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from bootc_live.base.errors import ImageError

# Reads up to a number of bytes from an offset.
ReadAt = Callable[[int, int], bytes]

_PE_OFFSET = 0x3C
# Signature, machine, number of sections, times and symbols, size of the optional header, characteristics.
_FILE_HEADER = struct.Struct("<4s2xH12xH2x")
# Name, VirtualSize, VirtualAddress, SizeOfRawData, PointerToRawData, fields of linkers.
_SECTION = struct.Struct("<8sI4xII16x")
_MAX_SECTIONS = 96
_PROFILE = ".profile"
# Where the optional header has the table of certificates, by its magic number (PE32, PE32+).
_PE32_PLUS = 0x20B
_CERTIFICATES = {0x10B: 128, _PE32_PLUS: 144}


def sections(read: ReadAt, size: int) -> dict[str, tuple[int, int]]:
    """Return offset and size of every section by name.

    For a UKI with several profiles (UKI specification, Multi-Profile UKIs), these are the sections of the default
    profile and of the base profile. Raises ImageError if the file is damaged or not a PE file.
    """
    profiles: list[dict[str, tuple[int, int]]] = [{}]
    for name, offset, length in _table(read, size):
        if offset + length > size:
            raise _damaged(f"its section {name!r} ends after the end of the file")
        if name == _PROFILE:
            profiles.append({})
        # Only .dtb may occur more than once.
        profiles[-1].setdefault(name, (offset, length))
    return {**profiles[0], **(profiles[1] if len(profiles) > 1 else {})}


def is_signed(read: ReadAt) -> bool:
    """Return whether a PE file has a table of certificates; by whom, and whether they fit, is not looked at."""
    start = read(0, _PE_OFFSET + 4)
    at = int.from_bytes(start[_PE_OFFSET:], "little")
    head = read(at + _FILE_HEADER.size, _CERTIFICATES[_PE32_PLUS] + 8)
    place = _CERTIFICATES.get(int.from_bytes(head[:2], "little"))
    if not start.startswith(b"MZ") or place is None or len(head) < place + 8:
        return False
    # Number of directories, the fifth of which is that table: its offset and size.
    count = int.from_bytes(head[place - 36 : place - 32], "little")
    return count > 4 and int.from_bytes(head[place + 4 : place + 8], "little") > 0


def is_uki(found: Mapping[str, tuple[int, int]]) -> bool:
    """Return whether a PE file with these sections is a unified kernel image (UKI specification, UKI Components)."""
    return ".linux" in found


def _table(read: ReadAt, size: int) -> list[tuple[str, int, int]]:
    start = read(0, _PE_OFFSET + 4)
    if len(start) < _PE_OFFSET + 4 or not start.startswith(b"MZ"):
        raise _damaged("it has no MZ header")
    at = int.from_bytes(start[_PE_OFFSET:], "little")
    head = read(at, _FILE_HEADER.size) if at < size else b""
    if len(head) < _FILE_HEADER.size:
        raise _damaged("its header is missing")
    signature, count, optional = _FILE_HEADER.unpack(head)
    if signature != b"PE\0\0" or not 0 < count <= _MAX_SECTIONS:
        raise _damaged("its header is damaged")
    table = read(at + _FILE_HEADER.size + optional, count * _SECTION.size)
    if len(table) < count * _SECTION.size:
        raise _damaged("its table of sections is cut short")
    return [_section(*fields) for fields in _SECTION.iter_unpack(table)]


def _section(name: bytes, virtual: int, raw: int, offset: int) -> tuple[str, int, int]:
    # Raw data is padded to the alignment of the file; a section that is larger in memory ends with zeros.
    length = min(virtual, raw) if virtual else raw
    return name.rstrip(b"\0").decode("ascii", "backslashreplace"), offset if length else 0, length


def _damaged(why: str) -> ImageError:
    return ImageError(f"not a usable PE file: {why}", hint="check the kernel or UKI in the image; build it again")
