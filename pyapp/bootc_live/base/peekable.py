"""A stream of chunks that can be peeked at and read in pieces of any size."""

from __future__ import annotations

from collections.abc import Iterator

_PIECE = 64 * 2**10


class PeekableStream:
    """Reads chunks in order; ``position`` counts the bytes read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """Begin at the first byte."""
        self._chunks = chunks
        self._held = b""
        self._at = 0
        self.position = 0

    def peek(self, size: int) -> bytes:
        """Return the next bytes without reading them; fewer only at the end."""
        length = len(self._held) - self._at
        if length < size:
            parts = [self._held[self._at :]]
            while length < size and (chunk := next(self._chunks, None)) is not None:
                parts.append(chunk)
                length += len(chunk)
            self._held, self._at = b"".join(parts), 0
        return self._held[self._at : self._at + size]

    def read(self, size: int) -> bytes:
        """Return the next bytes; fewer only at the end."""
        taken = self.peek(size)
        self._at += len(taken)
        self.position += len(taken)
        return taken

    def read_some(self, limit: int) -> bytes:
        """Return at least one byte, without waiting for more; none at the end."""
        self.peek(1)
        return self.read(min(limit, len(self._held) - self._at))

    def unread(self, count: int) -> None:
        """Put back bytes of the last read call."""
        self._at -= count
        self.position -= count

    def read_pieces(self, size: int) -> Iterator[bytes]:
        """Yield the next ``size`` bytes as they arrive; fewer only at the end."""
        while size and (piece := self.read_some(size)):
            size -= len(piece)
            yield piece

    def skip(self, size: int) -> bool:
        """Skip bytes; return False if there were fewer."""
        return sum(map(len, self.read_pieces(size))) == size

    def skip_zeros(self) -> None:
        """Skip zero bytes."""
        while self.peek(1) == b"\0":
            self.unread(len(self.read_some(_PIECE).lstrip(b"\0")))
