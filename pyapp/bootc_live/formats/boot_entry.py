"""Entries of boot menus: their names with counters, their files, and which one a boot loader starts.

See the Boot Loader Specification and Automatic Boot Assessment of the UAPI group and systemd.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "bootc-live"
# FAT ignores case; a number has one spelling, except in counters, which others write with zeros in front.
_NUMBER = "[1-9][0-9]{0,8}"
_STEM = re.compile(rf"{PREFIX}-({_NUMBER})-({_NUMBER})(?:\+([0-9]{{1,9}})(?:-([0-9]{{1,9}}))?)?", re.IGNORECASE)


@dataclass(frozen=True)
class EntryName:
    """The name of an entry: its place in the order, its deployment, and its counter.

    ``left`` are the boots that it may still try, None if it is known to be good; ``done`` are those that it tried.
    """

    order: int
    deployment: int
    left: int | None = None
    done: int = 0

    @property
    def identity(self) -> str:
        """The name without counter, which stays the same."""
        return f"{PREFIX}-{self.order}-{self.deployment}"

    def __str__(self) -> str:
        """Return the name with its counter, without the ending of a file."""
        if self.left is None:
            return self.identity
        return f"{self.identity}+{self.left}" + (f"-{self.done}" if self.done else "")


@dataclass(frozen=True)
class Entry:
    """One entry: ``path`` is the file that makes it one, ``kernel`` and ``initrd`` are what it starts.

    Paths begin with a slash at the top of the boot partition. ``initrd`` is empty for a unified kernel image.
    """

    name: EntryName
    title: str
    cmdline: str
    kernel: str = ""
    initrd: str = ""
    path: str = ""


def parse_name(stem: str) -> EntryName | None:
    """Return the parts of a file's name without its ending, or None if the file is not ours."""
    found = _STEM.fullmatch(stem)
    if found is None:
        return None
    order, deployment, left, done = found.groups()
    return EntryName(int(order), int(deployment), None if left is None else int(left), int(done or 0))


def boot_order(name: EntryName) -> tuple[int, ...]:
    """Return a key that sorts entries as boot loaders do: the first one is started.

    Those without tries come last. The specification compares sort key, machine and version; the first two are the same
    for all entries of ours, and the version is the order.
    """
    return (name.left == 0, -name.order, -name.deployment, -(name.left or 0), name.done)


def entry_text(entry: Entry) -> str:
    """Return the content of a type 1 entry; title and command line have to be printable.

    The kernel is last: without it, a file is no entry.
    """
    lines = [f"title {entry.title}", f"sort-key {PREFIX}"]
    if entry.initrd:
        lines += [f"version {entry.name.order}", f"options {entry.cmdline}", f"initrd {entry.initrd}"]
        lines.append(f"linux {entry.kernel}")
    else:
        # A unified kernel image has its own command line; under Secure Boot, it uses no other one. Those without an
        # entry like this have no version either, so that names alone make the order.
        lines.append(f"efi {entry.kernel}")
    return "\n".join([*lines, ""])


def parse_entry(text: str, name: EntryName, path: str) -> Entry:
    """Return the entry that a type 1 file describes; what it does not say is empty."""
    said: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.strip().replace("\t", " ", 1).partition(" ")
        if key and not key.startswith("#"):
            said.setdefault(key, []).append(value.strip())
    return Entry(
        name,
        title=_last(said, "title"),
        cmdline=" ".join(said.get("options", [])),
        kernel=_last(said, "linux") or _last(said, "efi"),
        initrd=_last(said, "initrd"),
        path=path,
    )


def _last(said: Mapping[str, list[str]], key: str) -> str:
    return said[key][-1] if key in said else ""
