"""A stream of chunks, read in pieces of the reader's own choice."""

from __future__ import annotations

from collections.abc import Iterator

_PIECE = 64 * 2**10


class PeekableStream:
    """Reads chunks front to back; ``position`` counts the bytes taken."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """Start at the first byte."""
        self._chunks = chunks
        self._held = b""
        # How much of it has been taken.
        self._at = 0
        self.position = 0

    def peek(self, size: int) -> bytes:
        """Give the next bytes without taking them; fewer only at the end."""
        length = len(self._held) - self._at
        if length < size:
            parts = [self._held[self._at :]]
            while length < size and (chunk := next(self._chunks, None)) is not None:
                parts.append(chunk)
                length += len(chunk)
            self._held, self._at = b"".join(parts), 0
        return self._held[self._at : self._at + size]

    def take(self, size: int) -> bytes:
        """Give the next bytes; fewer only at the end."""
        taken = self.peek(size)
        self._at += len(taken)
        self.position += len(taken)
        return taken

    def take_some(self, limit: int) -> bytes:
        """Give what is at hand of the next bytes, at least one; none at the end."""
        self.peek(1)
        return self.take(min(limit, len(self._held) - self._at))

    def give_back(self, count: int) -> None:
        """Put so many of the bytes that were taken last, by one call, back to the front."""
        self._at -= count
        self.position -= count

    def pieces(self, size: int) -> Iterator[bytes]:
        """Give the next ``size`` bytes as they come; fewer only at the end."""
        while size and (piece := self.take_some(size)):
            size -= len(piece)
            yield piece

    def skip(self, size: int) -> bool:
        """Pass over bytes; gives False where there were fewer."""
        return sum(map(len, self.pieces(size))) == size

    def skip_zeros(self) -> None:
        """Pass over bytes that are zero."""
        while self.peek(1) == b"\0":
            self.give_back(len(self.take_some(_PIECE).lstrip(b"\0")))
