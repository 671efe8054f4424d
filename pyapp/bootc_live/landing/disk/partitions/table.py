"""Where partitions lie, and the table that says so: GPT, written by sfdisk(8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bootc_live.base.errors import ConfigError
from bootc_live.base.units import MIB
from bootc_live.landing.disk.partitions.model import Partition
from bootc_live.system.run import require_program, run

# The table has less than a MiB at the start, and its copy less than one at the end.
_EDGE = MIB
_LONGEST_NAME = 36


@dataclass(frozen=True)
class Placed:
    """A partition with its number, its place in bytes, and its identity."""

    row: Partition
    number: int
    start: int
    size: int
    partuuid: str


def new_uuid() -> str:
    """Return a new random UUID."""
    with open("/proc/sys/kernel/random/uuid", encoding="ascii") as file:
        return file.read().strip()


def needed_size(rows: Sequence[Partition]) -> int:
    """Return the size of the smallest disk for some partitions."""
    return 2 * _EDGE + sum(_up(row.least if row.size is None else row.size) for row in rows)


def place(rows: Sequence[Partition], size: int) -> tuple[Placed, ...]:
    """Give each partition its place on a disk of ``size`` bytes; raise ConfigError if that is too small."""
    assert sum(row.size is None for row in rows) <= 1, "one partition gets the rest"
    assert len({row.name for row in rows}) == len(rows), "names differ"
    need = needed_size(rows)
    if size < need:
        raise ConfigError(
            f"it is too small: {need // MIB} MiB are needed, and it has {size // MIB} MiB",
            hint="name a larger disk, or give a file a larger --size",
        )
    rest = size // MIB * MIB - need
    placed, start = list[Placed](), _EDGE
    for number, row in enumerate(rows, 1):
        assert row.name.isalnum(), "a name for the table"
        assert len(row.name) <= _LONGEST_NAME, "a name for the table"
        length = _up(row.least) + rest if row.size is None else _up(row.size)
        placed.append(Placed(row, number, start, length, new_uuid()))
        start += length
    return tuple(placed)


def require_sfdisk() -> str:
    """Return the path of sfdisk; raise RunError."""
    return require_program("sfdisk", "write partition tables", "fdisk (Debian) or util-linux (Fedora)")


def write_table(path: str, placed: Sequence[Placed]) -> str:
    """Write a new table to a disk or file, and return its UUID; old signatures are removed. Raise RunError.

    The kernel is not told: the disk is in exclusive use, so sfdisk could not do it.
    """
    uuid = new_uuid()
    lines = ["label: gpt", f"label-id: {uuid}"]
    lines += [
        f"start={made.start // MIB}MiB, size={made.size // MIB}MiB, type={made.row.kind}, uuid={made.partuuid}, "
        f'name="{made.row.name}"'
        for made in placed
    ]
    quiet = ("--quiet", "--no-reread", "--no-tell-kernel", "--wipe=always", "--wipe-partitions=always")
    run([require_sfdisk(), *quiet, path], given="\n".join(lines) + "\n", hint="look at the kernel log (dmesg)")
    return uuid


def _up(size: int) -> int:
    return -(-size // MIB) * MIB
