"""The disks of this machine, as lsblk(8) lists them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bootc_live.base.errors import RunError
from bootc_live.base.units import mib
from bootc_live.system.run import require_program, run

# NAME makes it a tree.
_COLUMNS = "NAME,PATH,PKNAME,TYPE,SIZE,LOG-SEC,RO,RM,MODEL,SERIAL,MOUNTPOINTS"
_SWAP = "[SWAP]"


@dataclass(frozen=True)
class Disk:
    """A block device: ``kind`` is "disk", "part", "loop" …; ``uses`` says what uses it or its partitions."""

    path: str
    kind: str
    size: int
    sector: int
    read_only: bool
    removable: bool
    model: str
    serial: str
    parent: str
    uses: tuple[str, ...]

    def __str__(self) -> str:
        """Return what tells it from other disks."""
        words = (("model", self.model), ("serial", self.serial))
        return ", ".join([f"{self.path}: {mib(self.size)}", *(f"{word} {said}" for word, said in words if said)])


def all_disks() -> list[Disk]:
    """Return all hardware disks; not loop devices, disks in RAM and what is made of other disks. Raise RunError."""
    return [disk for disk in _listed() if disk.kind == "disk" and _is_hardware(disk.path)]


def disk_at(path: str) -> Disk:
    """Return the block device with a path, of any kind; raise RunError."""
    # Also one without a size.
    found = _listed("--all", path)
    if not found:
        raise RunError(f"lsblk does not list {path!r}", hint="check the device's name")
    return found[0]


def listing(disks: list[Disk]) -> str:
    """Return disks as the end of a sentence."""
    return "; ".join(map(str, disks)) or "this machine has none"


def _listed(*arguments: str) -> list[Disk]:
    lsblk = require_program("lsblk", "find disks", "util-linux")
    said = run([lsblk, "--json", "--bytes", "--output", _COLUMNS, *arguments], hint="check the device's name")
    return parse_disks(said)


def parse_disks(said: str) -> list[Disk]:
    """Return the devices that lsblk wrote as JSON; raise RunError."""
    try:
        return [_disk(entry) for entry in json.loads(said)["blockdevices"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError("lsblk wrote something unexpected", hint="use lsblk of util-linux 2.37 or later") from error


def _disk(entry: dict[str, Any]) -> Disk:
    return Disk(
        path=entry["path"],
        kind=entry["type"],
        size=entry["size"],
        sector=entry["log-sec"],
        read_only=entry["ro"],
        removable=entry["rm"],
        model=(entry["model"] or "").strip(),
        serial=(entry["serial"] or "").strip(),
        parent=entry["pkname"] or "",
        uses=tuple(_uses(entry)),
    )


def _uses(entry: dict[str, Any]) -> Iterator[str]:
    """Yield how a device and those on it are used."""
    for point in filter(None, entry["mountpoints"]):
        yield f"{entry['path']} is swap space" if point == _SWAP else f"{entry['path']} is mounted at {point!r}"
    for child in entry.get("children", ()):
        if child["type"] != "part":
            yield f"{child['path']} ({child['type']}) is made of {entry['path']}"
        yield from _uses(child)


def _is_hardware(path: str) -> bool:
    return os.path.exists(f"/sys/class/block/{os.path.basename(path)}/device")
