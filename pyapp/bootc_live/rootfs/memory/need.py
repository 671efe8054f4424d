"""Compute how much RAM a root needs at the worst moment, by one measured factor for each way to store it.

The factors are the largest that were measured on five Debian systems; docs/memory.md has the table. Sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from bootc_live.base.units import MIB
from bootc_live.config.model import Compression, Layout
from bootc_live.formats.verity import tree_size
from bootc_live.rootfs.ram import KEPT_FREE
from bootc_live.rootfs.tree.follower import AHEAD, BEYOND, PUNCH_STEP

# Available memory that the image must leave: for the kernel, and for buffers of this program. It has ended when the
# system starts, whose processes, /run and copy of /var come in its place.
RESERVE = KEPT_FREE + 32 * MIB

# Size of the file system that holds the image, relative to the unpacked size.
_STORED = {
    (Layout.INDEX, Compression.NONE): 1.01,
    (Layout.EROFS, Compression.NONE): 1.01,
    (Layout.EROFS, Compression.LZ4): 0.70,
    (Layout.EROFS, Compression.ZSTD): 0.61,
    (Layout.TREE, Compression.NONE): 1.10,
}
# Memory that zram uses, relative to the data: with lzo-rle or lz4, and with algorithms that compress better.
_ZRAM, _ZRAM_BETTER = 0.70, 0.63
_BETTER_ALGORITHMS = frozenset({"zstd", "deflate"})
# zram's table of pages; and the part of a device that ext4 leaves for files.
_ZRAM_TABLE, ZRAM_USABLE = 0.005, 0.93
# The system that compressed best needed this part of what the factors say.
_AT_BEST = 0.65

# RAM of a machine that is not available to images: measured in virtual PCs of 416 to 4096 MiB with an initramfs of all
# modules, rounded up.
_TAKEN, _TAKEN_SHARE = 165 * MIB, 0.1
_MACHINE_STEP = 16 * MIB


@dataclass(frozen=True)
class StorageOption:
    """A layout, its compression, and whether it lies on zram (with which algorithm) or on a tmpfs.

    ``verity`` adds a hash tree to an image of the erofs layout.
    """

    layout: Layout
    compress: Compression = Compression.NONE
    zram: bool = False
    algorithm: str = ""
    verity: bool = False

    def __str__(self) -> str:
        """Return its name for people."""
        compression = f" {self.compress}" if self.compress is not Compression.NONE else ""
        verity = " with verity" if self.verity else ""
        return f"{self.layout}{compression}{verity}{' on zram' if self.zram else ''}"


@dataclass(frozen=True)
class MemoryNeed:
    """What an option needs at its worst moment, in bytes.

    ``stored`` is used in the file system that holds the image, ``held`` is the RAM behind it, ``memory`` is what has to
    be available in all, with the reserve.
    """

    stored: int
    held: int
    memory: int


def memory_need(option: StorageOption, unpacked: int, *, streamed: bool = False, at_best: bool = False) -> MemoryNeed:
    """Return what an option needs for layers of ``unpacked`` bytes.

    ``streamed`` means that all layers are there before the first can be consumed. ``at_best`` assumes that they
    compress as well as in the best case measured, and that nothing is needed beside their data.
    """
    compressed = option.compress is not Compression.NONE
    factor = _STORED[option.layout, option.compress]
    if at_best:
        factor = factor * _AT_BEST if compressed else 1.0
    if option.layout is Layout.EROFS and streamed:
        factor = max(factor, 1.0)
    stored = int(unpacked * factor)
    if option.layout is not Layout.INDEX and not at_best:
        # Data that was read is freed in steps. Data that waits to be compressed counts as a whole: it may come to
        # nothing, and all other files to what the factor allows.
        stored += PUNCH_STEP + (min(unpacked, AHEAD + BEYOND) if compressed else 0)
    if option.verity:
        stored += tree_size(stored)
    held = stored
    if option.zram:
        pages = _ZRAM_BETTER if option.algorithm in _BETTER_ALGORITHMS else _ZRAM
        share = 1.0 if compressed else pages * _AT_BEST if at_best else pages
        held = int(stored * (share + _ZRAM_TABLE))
    return MemoryNeed(stored, held, held + RESERVE)


def available_on(memory: int) -> int:
    """Return how much is available to an image on a machine with ``memory`` bytes of RAM."""
    return max(0, int(memory * (1 - _TAKEN_SHARE)) - _TAKEN)


def machine_for(needed: int) -> int:
    """Return the RAM of the smallest machine with ``needed`` bytes available, in steps of 16 MiB."""
    return _round_up((needed + _TAKEN) / (1 - _TAKEN_SHARE))


def more_memory(lacking: int) -> int:
    """Return by how much a machine's RAM must grow for ``lacking`` more bytes to be available, in steps of 16 MiB."""
    return _round_up(lacking / (1 - _TAKEN_SHARE))


def _round_up(size: float) -> int:
    return int(-(-size // _MACHINE_STEP)) * _MACHINE_STEP
