"""The members of an archive of images, read by the same code as layers: from a file, over a network, or as a stream."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from bootc_live.base.peekable import PeekableStream
from bootc_live.formats.tar.header import BLOCK
from bootc_live.formats.tar.reader import Buffer, read_members
from bootc_live.formats.tar.sparse import Extent
from bootc_live.source.interface import CHUNK

# Of all headers of an archive, which has a member for each blob of its images (SECURITY.md).
MOST_HEADERS = 64 * 2**20
# Of all zeros that stand nowhere in the archive: they have to be hashed all the same.
MOST_HOLES = 2**37
_ZEROS = bytes(CHUNK)
_UNKNOWN = 2**62

Opener = Callable[[int, int], AbstractContextManager[Iterator[bytes]]]


@dataclass(frozen=True)
class Entry:
    """One member: ``kind`` and ``link`` as in ``tar_reader``, ``size`` in bytes, and where its data lies."""

    name: str
    kind: str
    link: str
    size: int
    extents: tuple[Extent, ...]


def read_entries(buffer: Buffer) -> Iterator[Entry]:
    """Return the members in their order; raise ValueError saying what is wrong."""
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
    """Return the content of a member, holes as zeros; ``opener`` opens spans of the archive."""
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
    """A Buffer that is asked for so many bytes and no more: what is asked for are headers."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._left = MOST_HEADERS

    def __len__(self) -> int:
        return len(self._buffer)

    def __getitem__(self, key: slice, /) -> bytes:
        self._left -= key.stop - key.start
        if self._left < 0:
            raise ValueError(f"its headers take more than {MOST_HEADERS} bytes")
        return self._buffer[key]


class Forward:
    """A Buffer over bytes that come once, from front to back; the data of members is taken out in between."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        """Take the pieces of the archive."""
        self._feed = PeekableStream(pieces)
        self._size = _UNKNOWN

    def __len__(self) -> int:
        """Return the size, or a very large one as long as it is not known."""
        return self._size

    def __getitem__(self, key: slice, /) -> bytes:
        """Return bytes, fewer only at the end; none before those that were asked for last."""
        # The block before is looked at once more for the map of a sparse member.
        self._pass_to(key.start - BLOCK)
        wanted = key.stop - self._feed.position
        found = self._feed.peek(wanted)
        if len(found) < wanted:
            self._size = self._feed.position + len(found)
        return found[key.start - self._feed.position :]

    def data(self, offset: int, length: int) -> Iterator[bytes]:
        """Return a span as it comes, fewer bytes only at the end."""
        self._pass_to(offset)
        return self._feed.read_pieces(length)

    def _pass_to(self, position: int) -> None:
        if position > self._feed.position:
            self._feed.skip(position - self._feed.position)
