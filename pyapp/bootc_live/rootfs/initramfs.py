"""What lies in an initramfs, read as the kernel's init/initramfs.c unpacks it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing

from bootc_live.base.cpio import read_headers
from bootc_live.base.errors import ImageError, RunError
from bootc_live.base.feed import Feed
from bootc_live.rootfs.decompress import decompressed


def holds(chunks: Iterator[bytes], name: str) -> bool | None:
    """Tell whether an initramfs has a member of that name; reads no further than to it.

    It may be several archives, plain and compressed. None where it cannot be told: an archive is damaged, or
    cannot be decompressed here.
    """
    wanted = _normal(name)
    with closing(_members(Feed(chunks))) as members:
        try:
            return any(_normal(member) == wanted for member in members)
        except (ImageError, RunError, ValueError):
            return None


def _members(feed: Feed) -> Generator[str, None, None]:
    while True:
        yield from (member.name for member in read_headers(feed))
        if not feed.peek(1):
            return
        with closing(decompressed(feed, "the initramfs")) as pieces:
            inner = Feed(pieces)
            yield from (member.name for member in read_headers(inner))
            if inner.peek(1):
                # The kernel gives up, too.
                return


def _normal(name: str) -> str:
    return name.removeprefix("./").strip("/")
