"""Find units of images that are for a system on a disk: in RAM they fail, or fill memory.

The table is for the program and docs/distributions.md. It omits units that systemd skips itself, because they need a
system booted by ostree (ConditionPathExists=/run/ostree-booted) or from a disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, NamedTuple, Protocol

from bootc_live.base.paths import resolve_below
from bootc_live.config.cmdline.tokens import Token
from bootc_live.rootfs.tree.node import Node, resolve

# Of a preset file.
_MOST_TEXT = 64 * 2**10


class UnitTree(Protocol):
    """A tree in which systemd looks for units."""

    def listing(self, directory: str) -> Mapping[str, str]:
        """Return the names in a directory: with the target of a link, ``MASK`` for an empty file, or ""."""

    def content(self, path: str) -> str:
        """Return the content of a small file, "" if there is none."""


class DiskUnit(NamedTuple):
    """A unit, its package or distribution, and why it does not work in RAM."""

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

# Images of ostree have in /usr/etc what an installed system has in /etc.
_PLACES = ("etc/systemd", "usr/etc/systemd", "usr/local/lib/systemd", "usr/lib/systemd")
_MACHINE_IDS = ("etc/machine-id", "usr/etc/machine-id")
_ASKING = (".wants", ".requires")
MASK: Final = "/dev/null"


def enabled_disk_units(tree: UnitTree, masked: Iterable[str] = ()) -> list[DiskUnit]:
    """Return the units of the table that will be started in a tree: see ``enabled_units``."""
    enabled = enabled_units(tree, masked)
    return [unit for unit in DISK_UNITS if unit.name in enabled]


def enabled_units(tree: UnitTree, masked: Iterable[str] = ()) -> set[str]:
    """Return the units that will be started in a tree, and that neither it nor ``masked`` masks.

    Another unit wants them, or the first boot enables them by presets (systemd.preset(5)): of these, only those that
    have an [Install] section really. The first directory that has a name counts, as in systemd.
    """
    units: dict[str, str] = {}
    asked: dict[tuple[str, str], str] = {}
    for place in _PLACES:
        for name, target in tree.listing(f"{place}/system").items():
            units.setdefault(name, target)
            if name.endswith(_ASKING):
                for unit, leads in tree.listing(f"{place}/system/{name}").items():
                    asked.setdefault((name, unit), leads)
    wanted = {unit for (_, unit), leads in asked.items() if leads != MASK}
    if _is_first_boot(tree):
        rules = _presets(tree)
        wanted |= {unit for unit in units if _is_preset(unit, rules)}
    hidden = {name for name, target in units.items() if target == MASK}.union(masked)
    return wanted - hidden


def _is_first_boot(tree: UnitTree) -> bool:
    """Return whether systemd will consider the boot the first one (machine-id(5)): then presets count."""
    for path in _MACHINE_IDS:
        directory, _, name = path.rpartition("/")
        if name in tree.listing(directory):
            return tree.content(path).startswith("uninitialized")
    return True


def _presets(tree: UnitTree) -> list[list[str]]:
    """Return the rules of all presets in their order: a word, a pattern, and instances."""
    files: dict[str, str] = {}
    for place in _PLACES:
        for name in tree.listing(f"{place}/system-preset"):
            if name.endswith(".preset"):
                files.setdefault(name, f"{place}/system-preset/{name}")
    lines = (line.split() for _, path in sorted(files.items()) for line in tree.content(path).splitlines())
    return [words for words in lines if len(words) > 1 and words[0] in ("enable", "disable", "ignore")]


def _is_preset(unit: str, rules: Iterable[list[str]]) -> bool:
    return next((rule[0] for rule in rules if fnmatchcase(unit, rule[1])), "enable") == "enable"


def mask_arguments(units: Iterable[DiskUnit]) -> str:
    """Return the kernel arguments that mask units."""
    return " ".join(f"systemd.mask={unit.name}" for unit in units)


def masked_by(tokens: Iterable[Token]) -> set[str]:
    """Return the units that a kernel command line masks, as systemd-debug-generator(8) reads it."""
    names = {token.value or "" for token in tokens if token.name == "systemd.mask"}
    return names | {f"{name}.service" for name in names}


@dataclass(frozen=True)
class DirectoryTree:
    """A tree of real files, in which links are resolved."""

    root: str

    def listing(self, directory: str) -> Mapping[str, str]:
        """List a directory; see ``UnitTree``."""
        path = resolve_below(self.root, directory)
        if path is None or not os.path.isdir(path):
            return {}
        with os.scandir(path) as entries:
            return {entry.name: self._leads(entry) for entry in entries}

    def _leads(self, entry: os.DirEntry[str]) -> str:
        if entry.is_symlink():
            return os.readlink(entry.path)
        return MASK if entry.is_file(follow_symlinks=False) and not entry.stat(follow_symlinks=False).st_size else ""

    def content(self, path: str) -> str:
        """Read a file; see ``UnitTree``."""
        found = resolve_below(self.root, path)
        if found is None or not os.path.isfile(found):
            return ""
        with open(found, "rb") as file:
            return file.read(_MOST_TEXT).decode(errors="replace")


@dataclass(frozen=True)
class ImageTree:
    """An image's merged tree; ``read`` returns the content of a file."""

    root: Node
    read: Callable[[Node], bytes]

    def listing(self, directory: str) -> Mapping[str, str]:
        """List a directory; see ``UnitTree``."""
        try:
            found = resolve(self.root, _parts(os.fsencode(directory)), None).directory
        except ValueError:
            return {}
        return {os.fsdecode(name): self._leads(node) for name, node in found.items()}

    def _leads(self, node: Node) -> str:
        if node.kind == "symlink":
            return os.fsdecode(node.link)
        return MASK if node.kind == "file" and not node.size else ""

    def content(self, path: str) -> str:
        """Read a file; see ``UnitTree``."""
        *above, name = _parts(os.fsencode(path))
        try:
            node = resolve(self.root, above, None).directory.get(name)
        except ValueError:
            node = None
        if node is None or node.kind != "file" or node.size > _MOST_TEXT:
            return ""
        return self.read(node).decode(errors="replace")


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part]
