"""Read the members of an archive of images, from a file, over the network, or in a stream."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from bootc_live.base.peekable import PeekableStream
from bootc_live.formats.tar.header import BLOCK
from bootc_live.formats.tar.reader import Buffer, read_members
from bootc_live.formats.tar.sparse import Extent
from bootc_live.source.interface import CHUNK

# The limit for all headers of an archive, which has a member for each blob (SECURITY.md).
MOST_HEADERS = 64 * 2**20
# The limit for the bytes in holes, which must be hashed although the archive does not contain them.
MOST_HOLES = 2**37
_ZEROS = bytes(CHUNK)
_UNKNOWN = 2**62

Opener = Callable[[int, int], AbstractContextManager[Iterator[bytes]]]


@dataclass(frozen=True)
class Entry:
    """One member; ``kind`` and ``link`` are as in ``formats.tar.reader``, ``size`` is in bytes."""

    name: str
    kind: str
    link: str
    size: int
    extents: tuple[Extent, ...]


def read_entries(buffer: Buffer) -> Iterator[Entry]:
    """Yield the members in their order; raise ValueError with the reason."""
    holes = 0
    for member in read_members(_Bounded(buffer)):
        extents = member.extents
        if extents is None:
            extents = (Extent(0, member.size, member.offset),) if member.size else ()
        holes += member.size - sum(extent.length for extent in extents)
        if holes > MOST_HOLES:
            raise ValueError(f"its members have more than {MOST_HOLES} bytes of holes")
        yield Entry(_text(member.name), member.kind, _text(member.link), member.size, extents)


def chunks_of(entry: Entry, opener: Opener) -> Generator[bytes, None, None]:
    """Yield the content of a member, with zeros for holes; ``opener`` opens parts of the archive."""
    position = 0
    for extent in entry.extents:
        yield from _zeros(extent.start - position)
        with opener(extent.data, extent.length) as chunks:
            yield from chunks
        position = extent.start + extent.length
    yield from _zeros(entry.size - position)


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield _ZEROS[:count]
        count -= CHUNK


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")


class _Bounded:
    """A Buffer with a limit for the bytes that are read: those of headers."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._left = MOST_HEADERS

    def __len__(self) -> int:
        return len(self._buffer)

    def __getitem__(self, key: slice, /) -> bytes:
        self._left -= key.stop - key.start
        if self._left < 0:
            raise ValueError(f"its headers have more than {MOST_HEADERS} bytes")
        return self._buffer[key]


class StreamBuffer:
    """A Buffer over a stream; the data of members is read between the headers."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        """Read the archive from ``pieces``."""
        self._stream = PeekableStream(pieces)
        self._size = _UNKNOWN

    def __len__(self) -> int:
        """Return the size, or a very large number while it is unknown."""
        return self._size

    def __getitem__(self, key: slice, /) -> bytes:
        """Return bytes, fewer only at the end; positions must not decrease."""
        # The map of a sparse member needs the previous block.
        self._pass_to(key.start - BLOCK)
        wanted = key.stop - self._stream.position
        found = self._stream.peek(wanted)
        if len(found) < wanted:
            self._size = self._stream.position + len(found)
        return found[key.start - self._stream.position :]

    def data(self, offset: int, length: int) -> Iterator[bytes]:
        """Yield the bytes of a part, fewer only at the end."""
        self._pass_to(offset)
        return self._stream.read_pieces(length)

    def _pass_to(self, position: int) -> None:
        if position > self._stream.position:
            self._stream.skip(position - self._stream.position)
