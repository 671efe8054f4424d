"""Read an initramfs as the kernel's init/initramfs.c unpacks it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

from bootc_live.base.errors import ImageError, RunError
from bootc_live.base.installed import FEATURES, FETCH_URL, PROGRAM
from bootc_live.base.peekable import PeekableStream
from bootc_live.config.source_spec import RegistryImage, SourceSpec, is_remote
from bootc_live.formats.cpio import CpioFile, read_headers
from bootc_live.system.decompress import decompressed

# Members have names without a slash at the beginning.
_PROGRAM, _FETCH, _FEATURES = (path.lstrip("/") for path in (PROGRAM, FETCH_URL, FEATURES))
# The magic number of lz4's legacy format, which kernels use.
LZ4 = b"\x02\x21\x4c\x18"
# Files that are read here are lists of a few words.
_MOST_READ = 4096
_PAGE = 4096
# How modules may be compressed.
_COMPRESSED = ("", ".gz", ".xz", ".zst")


@dataclass(frozen=True)
class Contents:
    """The requested members of an initramfs, with their first bytes; ``whole`` is set if all of it was read."""

    found: dict[str, bytes]
    whole: bool

    def has(self, name: str) -> bool | None:
        """Return whether there is a requested member of that name.

        Return None if it is unknown: an archive is damaged, or cannot be decompressed here.
        """
        return True if _normal(name) in self.found else False if self.whole else None


def look_for(chunks: Iterator[bytes], *names: str) -> Contents:
    """Find members of an initramfs (several archives, plain or compressed), reading no further than the last one."""
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


def holds(chunks: Iterator[bytes], *names: str) -> bool | None:
    """Return whether an initramfs has a member of one of the names; see ``Contents.has``."""
    wanted = {_normal(name) for name in names}
    with closing(_members(PeekableStream(chunks))) as members:
        try:
            return any(_normal(member.name) in wanted for member, _ in members)
        except (ImageError, RunError, ValueError):
            return None


def has_module(chunks: Iterator[bytes], version: str, path: str) -> bool | None:
    """Return whether an initramfs has a module of a kernel, by its path in modules.builtin; see ``Contents.has``."""
    tops = [f"{top}lib/modules/{version}/{path}" for top in ("usr/", "")]
    return holds(chunks, *(f"{top}{suffix}" for top in tops for suffix in _COMPRESSED))


def unfit(initramfs: Iterator[bytes], what: str, spec: SourceSpec | None) -> str | None:
    """Return why an initramfs, called ``what``, cannot boot from ``spec``, or None; raise as ``lacking_module``."""
    lacking = lacking_module(initramfs, spec)
    if lacking is None:
        return None
    if lacking == "bootc-live":
        return f"{what} does not contain bootc-live"
    return f"{what} lacks the dracut module {lacking}" + (f", which {spec.source_text!r} needs" if spec else "")


def lacking_module(initramfs: Iterator[bytes], spec: SourceSpec | None) -> str | None:
    """Return the first of our dracut modules that an initramfs lacks to boot from ``spec``, None if it has all.

    Without a source, it contains what it boots from. Raise ValueError for an initramfs that cannot be read.
    """
    remote, registry = spec is not None and is_remote(spec), isinstance(spec, RegistryImage)
    names = [_PROGRAM, *([_FETCH] if remote else []), *([_FEATURES] if registry else [])]
    contents = look_for(initramfs, *names)
    for module, name in (("bootc-live", _PROGRAM), ("bootc-live-net", _FETCH)):
        if name in names and (has := contents.has(name)) is not True:
            if has is None:
                raise ValueError("it is damaged, or no program for its compression is here")
            return module
    features = contents.found.get(_FEATURES)
    return "bootc-live-registry" if registry and features is not None and b"registry" not in features.split() else None


def unpacked_size(chunks: Iterator[bytes]) -> int:
    """Return the memory that an unpacked initramfs needs, as far as it can be read."""
    size = 0
    with closing(_members(PeekableStream(chunks))) as members:
        try:
            for member, _ in members:
                size += -(-member.size // _PAGE) * _PAGE
        except (ImageError, RunError, ValueError):
            pass
    return size


def _members(feed: PeekableStream) -> Generator[tuple[CpioFile, PeekableStream], None, None]:
    """Yield the members, each with the stream at its data."""
    while True:
        yield from ((member, feed) for member in read_headers(feed))
        first = feed.peek(len(LZ4))
        if not first:
            return
        with closing(decompressed(feed)) as pieces:
            inner = PeekableStream(pieces)
            yield from ((member, inner) for member in read_headers(inner))
            if inner.peek(1):
                # The kernel stops here, too.
                return
        if first == LZ4 and len(word := feed.peek(4)) == 4 and any(word):
            # Without a word of zeros at the end, the kernel reads what follows as the size of a block, and stops.
            return


def _normal(name: str) -> str:
    return name.removeprefix("./").strip("/")
