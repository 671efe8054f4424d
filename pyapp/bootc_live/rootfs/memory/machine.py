"""How much of a machine's RAM an image can have: what kernel and initramfs take before anything is fetched.

Measured in virtual PCs of 416 to 4096 MiB with an initramfs of all modules (66 MiB unpacked), as RAM that was given to
the machine less MemAvailable of proc_meminfo(5) when an image has been looked up.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

from bootc_live.base.units import MIB
from bootc_live.config.model import Backing

# RAM of the machine, and what of it is taken; straight lines in between.
_TAKEN = ((0, 181), (512, 183), (1024, 266), (4096, 475))
# Of what a machine has beyond that.
_BEYOND = 0.03
# RAM that MemTotal does not show: firmware, the kernel itself, and what describes its pages.
_DARK, _DARK_SHARE = 36 * MIB, 1 / 32
_ROUND = 16 * MIB


@dataclass(frozen=True)
class Room:
    """What there is: bytes of RAM available before anything is fetched, and MemTotal; the limits that were set.

    ``free`` is what a directory has in which the image is built because somebody chose it, ``on_disk`` tells that it
    does not lie in RAM.
    """

    available: int
    total: int
    backing: Backing
    free: int | None = None
    on_disk: bool = False


def machine_room(memory: int, backing: Backing) -> Room:
    """Give the room on a machine with so many bytes of RAM, as it is when the image is looked up."""
    shown = max(0, int((memory - _DARK) / (1 + _DARK_SHARE)))
    return Room(max(0, memory - _taken(memory)), shown, backing)


def smallest_machine(needed: int) -> int:
    """Return the bytes of RAM of a machine on which ``needed`` bytes are available, in steps of 16 MiB."""
    # An image states its size itself: a search of one step after the other would be as long as it likes.
    enough = 2 * needed // _ROUND + _ROUND
    steps = bisect_left(range(enough), needed, lo=1, key=lambda step: step * _ROUND - _taken(step * _ROUND))
    return steps * _ROUND


def larger_machine(room: Room, needed: int) -> int:
    """Give the bytes of RAM that this machine would have to have for ``needed`` bytes to be available."""
    memory = whole_machine(room.total)
    # What it keeps for itself may be more or less than on those that were measured.
    shift = memory - _taken(memory) - room.available
    return max(smallest_machine(max(0, needed + shift)), -(-memory // _ROUND) * _ROUND)


def whole_machine(total: int) -> int:
    """Give the RAM of a machine from its MemTotal."""
    return int(total * (1 + _DARK_SHARE)) + _DARK


def _taken(memory: int) -> int:
    last, most = _TAKEN[-1]
    if memory >= last * MIB:
        return most * MIB + int((memory - last * MIB) * _BEYOND)
    for (low, below), (high, above) in pairwise(_TAKEN):
        if memory <= high * MIB:
            return below * MIB + (memory - low * MIB) * (above - below) // (high - low)
    raise AssertionError("the last point was looked at first")
