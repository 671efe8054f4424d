"""What lies in an initramfs, read as the kernel's init/initramfs.c unpacks it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

from bootc_live.base.errors import ImageError, RunError
from bootc_live.base.peekable import PeekableStream
from bootc_live.formats.cpio import CpioFile, read_headers
from bootc_live.system.decompress import decompressed

# The magic number of lz4's legacy format, the one that kernels know.
LZ4 = b"\x02\x21\x4c\x18"
# Files that are read are lists of a few words.
_MOST_READ = 4096
_PAGE = 4096


@dataclass(frozen=True)
class Contents:
    """What was found of an initramfs: the members asked for, with how they begin.

    ``whole`` tells that all of it could be read.
    """

    found: dict[str, bytes]
    whole: bool

    def has(self, name: str) -> bool | None:
        """Tell whether there is a member of that name, one of those asked for.

        None where it cannot be told: an archive is damaged, or cannot be decompressed here.
        """
        return True if _normal(name) in self.found else False if self.whole else None


def look_for(chunks: Iterator[bytes], *names: str) -> Contents:
    """Look for members of an initramfs; reads no further than to the last of them.

    It may be several archives, plain and compressed.
    """
    wanted, found = {_normal(name) for name in names}, dict[str, bytes]()
    with closing(_members(PeekableStream(chunks))) as members:
        try:
            for member, feed in members:
                if (name := _normal(member.name)) in wanted:
                    found[name] = feed.peek(min(member.size, _MOST_READ))[:_MOST_READ]
                    if len(found) == len(wanted):
                        break
        except (ImageError, RunError, ValueError):
            return Contents(found, whole=False)
    return Contents(found, whole=True)


def holds(chunks: Iterator[bytes], name: str) -> bool | None:
    """Tell whether an initramfs has a member of that name; see ``Contents.has``."""
    return look_for(chunks, name).has(name)


def unpacked_size(chunks: Iterator[bytes]) -> int:
    """Return how much memory an initramfs takes once it is unpacked, as far as it can be read."""
    size = 0
    with closing(_members(PeekableStream(chunks))) as members:
        try:
            for member, _ in members:
                size += -(-member.size // _PAGE) * _PAGE
        except (ImageError, RunError, ValueError):
            pass
    return size


def _members(feed: PeekableStream) -> Generator[tuple[CpioFile, PeekableStream], None, None]:
    """Give the members, each with the stream that has its data next."""
    while True:
        yield from ((member, feed) for member in read_headers(feed))
        first = feed.peek(len(LZ4))
        if not first:
            return
        with closing(decompressed(feed)) as pieces:
            inner = PeekableStream(pieces)
            yield from ((member, inner) for member in read_headers(inner))
            if inner.peek(1):
                # The kernel gives up, too.
                return
        if first == LZ4 and len(word := feed.peek(4)) == 4 and any(word):
            # Where no word of zeros ends it, the kernel takes what follows for the size of a block, and gives up.
            return


def _normal(name: str) -> str:
    return name.removeprefix("./").strip("/")
