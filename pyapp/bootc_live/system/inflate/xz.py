"""Decode xz with the standard library."""

from __future__ import annotations

import ctypes
import lzma
from collections.abc import Iterator

XZ = b"\xfd7zXZ\0"


class XzDecoder:
    """Decodes a file of one or more streams, with zeros between and after them (The .xz File Format, 2)."""

    def __init__(self, room: ctypes.Array[ctypes.c_char]) -> None:
        """Return pieces of at most the size of ``room``."""
        self._most = len(room)
        self._stream: lzma.LZMADecompressor | None = None
        self._ended = False

    def decode(self, data: memoryview) -> Iterator[bytes]:
        """Yield what the next piece of the file decodes to; raise ValueError if it is damaged."""
        given = bytes(data)
        while given or (self._stream is not None and not self._stream.needs_input):
            if self._stream is None:
                given = given.lstrip(b"\0") if self._ended else given
                if not given:
                    return
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ)
            try:
                piece = self._stream.decompress(given, self._most)
            except lzma.LZMAError as error:
                raise ValueError(str(error)) from error
            given = b""
            if self._stream.eof:
                given, self._stream, self._ended = self._stream.unused_data, None, True
            if piece:
                yield piece

    def end(self) -> None:
        """Raise ValueError if the file is not complete."""
        if self._stream is not None or not self._ended:
            raise ValueError("its xz stream has no end")
