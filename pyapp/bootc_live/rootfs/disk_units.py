"""Units of images that are for a system on a disk: in RAM they fail, or fill memory.

One table for the program and for docs/distributions.md. What only runs where ostree has booted the system
(ConditionPathExists=/run/ostree-booted) or from a disk is passed over by systemd itself, and not in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from bootc_live.base.paths import resolve_below
from bootc_live.config.cmdline.tokens import Token
from bootc_live.rootfs.tree.node import Node, resolve

Listing = Callable[[str], Mapping[str, str]]
"""Gives the names in a directory of a tree, and what those lead to that are symbolic links, "" for all others."""


class DiskUnit(NamedTuple):
    """A unit, the package or distribution it comes from, and what becomes of it in RAM."""

    name: str
    origin: str
    why: str


DISK_UNITS: Final = (
    DiskUnit("bootloader-update.service", "bootupd", "fails: there is no disk with a boot loader to update"),
    DiskUnit("bootupd-static-grub-migration.service", "bootupd", "fails with the one above, which it requires"),
    DiskUnit("coreos-growpart.service", "RHEL CoreOS", "fails: no partition is below `/` that could grow"),
    DiskUnit("bootc-fetch-apply-updates.timer", "bootc", "fails an hour after the boot: no deployment to upgrade"),
    DiskUnit("uupd.timer", "Universal Blue", "fails once a day: no deployment to upgrade"),
    DiskUnit("zincati.service", "Fedora CoreOS", "fails again and again: no deployment to upgrade"),
    DiskUnit("greenboot-healthcheck.service", "greenboot", "fails: it records its result below `/boot`"),
    DiskUnit("greenboot-set-rollback-trigger.service", "greenboot", "fails: it counts boots below `/boot`"),
    DiskUnit("dnf-makecache.timer", "dnf", "fills memory: it keeps the index of all packages in `/var/cache`"),
    DiskUnit("dnf5-makecache.timer", "dnf5", "fills memory: it keeps the index of all packages in `/var/cache`"),
)

# In images of ostree, what an installed system has in /etc lies in /usr/etc.
_PLACES = ("etc/systemd/system", "usr/etc/systemd/system", "usr/lib/systemd/system")
_ASKING = (".wants", ".requires")
_MASK = "/dev/null"


def enabled_disk_units(listing: Listing, masked: Iterable[str] = ()) -> list[DiskUnit]:
    """Return those units of the table that something in a tree asks for, and neither it nor ``masked`` masks."""
    wanted, hidden = set[str](), set(masked)
    for place in _PLACES:
        for name, target in listing(place).items():
            if target == _MASK:
                hidden.add(name)
            elif name.endswith(_ASKING):
                wanted |= {unit for unit, leads in listing(f"{place}/{name}").items() if leads != _MASK}
    return [unit for unit in DISK_UNITS if unit.name in wanted - hidden]


def mask_arguments(units: Iterable[DiskUnit]) -> str:
    """Return the kernel arguments that leave units out."""
    return " ".join(f"systemd.mask={unit.name}" for unit in units)


def masked_by(tokens: Iterable[Token]) -> set[str]:
    """Return the units that a kernel command line masks, as systemd-debug-generator(8) reads it."""
    names = {token.value or "" for token in tokens if token.name == "systemd.mask"}
    return names | {f"{name}.service" for name in names}


def listing_of_directory(root: str) -> Listing:
    """Return the listing of a tree of real files; links in it never lead out of it."""

    def listing(directory: str) -> Mapping[str, str]:
        path = resolve_below(root, directory)
        if path is None or not os.path.isdir(path):
            return {}
        with os.scandir(path) as entries:
            return {entry.name: os.readlink(entry.path) if entry.is_symlink() else "" for entry in entries}

    return listing


def listing_of_tree(root: Node) -> Listing:
    """Return the listing of an image's merged tree."""

    def listing(directory: str) -> Mapping[str, str]:
        try:
            found = resolve(root, directory.encode(errors="surrogateescape").split(b"/"), None).directory
        except ValueError:
            return {}
        return {os.fsdecode(name): os.fsdecode(entry.node.link) for name, entry in found.items()}

    return listing
