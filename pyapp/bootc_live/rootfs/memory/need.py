"""How much RAM each way to keep a root in RAM takes at its worst moment: formulas, and where their constants are from.

The constants were measured on five Debian systems of 195 to 841 MiB; docs/memory.md has the table. Sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from bootc_live.config.model import Compression, Layout

_MIB = 2**20
# While the root is built: buffers, inflaters and what the program remembers of files, and what the kernel is left. The
# program itself runs already when it looks how much there is.
BUILDING = (32 + 64) * _MIB
# Once the system runs: its processes, the copy of /var, /run and logs. A small server takes no more than what the
# program and the initramfs give back when they are left; this is for one that does.
RUNNING = 96 * _MIB
# The program has ended when the system starts.
RESERVE = max(BUILDING, RUNNING)
# EROFS metadata in front of the tars: 80 bytes for a file, most of which are larger than 8 KiB.
_INDEX_METADATA = 0.01
# Data that waits for being compressed or copied; less than that in the end, when everything else is there, too.
_WINDOW = 16 * _MIB
# Files of a tree take whole pages, and a kilobyte of kernel memory each that the size of a tmpfs does not show.
_TREE_PAGES, _TREE_INODES = 1.04, 0.03
# By what gzip made of a layer, so much LZ4 and zstd make of it in extents of 128 KiB, and zram of single pages (by its
# usual lzo-rle or lz4, or by zstd): straight lines through what was measured, offset and slope, a fiftieth to the safe
# side.
_STORED = {Compression.LZ4: (0.32, 0.71), Compression.ZSTD: (0.10, 0.92)}
_PAGES = (0.40, 0.56)
_DENSE_PAGES = (0.10, 0.95)
_DENSE = frozenset({"zstd", "deflate"})
_TYPICAL_PACKING = 0.42
# Data that does not compress takes a little more.
_MOST = 1.03
# How much better than by those lines it may be.
_LUCK = 0.9
# What ext4 leaves of a device for files, and zram's table of its pages.
ZRAM_USABLE = 0.93
_ZRAM_TABLE = 0.005


@dataclass(frozen=True)
class StorageOption:
    """A layout, how its data is compressed, and whether it lies on zram, with what algorithm, instead of a tmpfs."""

    layout: Layout
    compress: Compression = Compression.NONE
    zram: bool = False
    algorithm: str = ""

    def __str__(self) -> str:
        """Give its name for people."""
        packed = f" {self.compress}" if self.compress is not Compression.NONE else ""
        return f"{self.layout}{packed}{' on zram' if self.zram else ''}"

    @property
    def arguments(self) -> str:
        """Give the kernel arguments that ask for it, but for the size of the zram device."""
        packed = f" bootc.live.compress={self.compress}" if self.compress is not Compression.NONE else ""
        return f"bootc.live.layout={self.layout}{packed}"


@dataclass(frozen=True)
class MemoryNeed:
    """What a way needs at its worst moment, in bytes.

    ``stored`` is in the file system that holds the image, ``held`` is the RAM which that takes, ``memory`` is all that
    has to be available: with what is beside it, and the reserve for the system.
    """

    stored: int
    held: int
    memory: int


@dataclass(frozen=True)
class Content:
    """What is to be kept: bytes of tar, and what compression made of them (0.4: to less than half), where known.

    ``optimistic`` assumes that it compresses better than usual; ``streamed`` says that all tars are there before any
    can be worked on.
    """

    unpacked: int
    packing: float | None = None
    streamed: bool = False
    optimistic: bool = False

    def compressed_ratio(self, line: tuple[float, float]) -> float:
        """Give what is left of each byte by one of the lines above."""
        offset, slope = line
        share = min(_MOST, offset + slope * (_TYPICAL_PACKING if self.packing is None else self.packing))
        return share * _LUCK if self.optimistic else share


def memory_need(way: StorageOption, content: Content) -> MemoryNeed:
    """Give what a way needs for some content."""
    stored, beside = _stored(way, content)
    held = stored
    if way.zram:
        pages = _DENSE_PAGES if way.algorithm in _DENSE else _PAGES
        packed = way.compress is not Compression.NONE
        held = int(stored * (1.0 if packed else content.compressed_ratio(pages)) + stored * _ZRAM_TABLE)
    return MemoryNeed(stored, held, held + beside + RESERVE)


def _stored(way: StorageOption, content: Content) -> tuple[int, int]:
    """Give the bytes in the file system, and those of RAM beside it that do not show there."""
    if way.layout is Layout.TREE:
        return int(content.unpacked * _TREE_PAGES) + _WINDOW, int(content.unpacked * _TREE_INODES)
    if way.layout is Layout.EROFS:
        line = _STORED.get(way.compress)
        share = content.compressed_ratio(line) if line is not None else 1.0
        # A stream has to have ended before its layers can be taken, and they are given back as they are.
        return int(content.unpacked * (max(share, 1.0) if content.streamed else share)) + _WINDOW, 0
    return int(content.unpacked * (1 + _INDEX_METADATA)), 0
