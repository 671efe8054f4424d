"""Unwrap kernels for EFI that decompress themselves: kexec can only load the kernel inside.

The header is that of the kernel's drivers/firmware/efi/libstub/zboot-header.S.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator

from bootc_live.base.errors import ImageError
from bootc_live.base.peekable import PeekableStream
from bootc_live.formats.pe import ReadAt
from bootc_live.system.decompress import decompressed, is_compressed

# "MZ" and padding, type of image, offset and size of the payload, reserved, type of compression.
_HEADER = struct.Struct("<2s2x4sII8x32s")
_CHUNK = 2**20


def unwrap(read: ReadAt, size: int) -> Generator[bytes, None, None] | None:
    """Return the pieces of the kernel in a zboot image, or None for any other file.

    Raise ImageError if it is damaged, and RunError if the program to decompress it is missing.
    """
    head = read(0, _HEADER.size)
    if len(head) < _HEADER.size:
        return None
    magic, kind, offset, length, compression = _HEADER.unpack(head)
    if (magic, kind) != (b"MZ", b"zimg"):
        return None
    hint = "check the kernel in the image; build it again"
    if not length or offset < _HEADER.size or offset + length > size:
        raise ImageError("it is damaged: its zboot header points outside the file", hint=hint)
    feed = PeekableStream(_chunks(read, offset, length))
    if not is_compressed(feed.peek(6)):
        named = compression.partition(b"\0")[0].decode(errors="replace")
        raise ImageError(f"it is compressed with {named!r}, which cannot be decompressed here", hint=hint)
    return decompressed(feed)


def _chunks(read: ReadAt, offset: int, size: int) -> Iterator[bytes]:
    end = offset + size
    while offset < end and (chunk := read(offset, min(_CHUNK, end - offset))):
        yield chunk
        offset += len(chunk)
