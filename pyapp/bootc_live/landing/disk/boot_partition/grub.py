"""GRUB: what is started next is in its environment block, one sector that is written in place."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import ClassVar

from bootc_live.base.errors import ConfigError, LandingError
from bootc_live.formats.boot_entry import PREFIX, Entry, EntryName, entry_text, parse_entry, parse_name
from bootc_live.formats.grub_env import read_block, write_block
from bootc_live.landing.disk.boot_partition import files
from bootc_live.landing.disk.boot_partition.files import ENTRIES, boot_partition
from bootc_live.landing.disk.boot_partition.grub_script import (
    CONFIGURATION,
    SNIPPETS,
    VARIABLE,
    environment_word,
    menu_entry,
)
from bootc_live.landing.disk.boot_partition.interface import Esp, sorted_entries
from bootc_live.landing.disk.boot_partition.kernels import add_kernel
from bootc_live.landing.disk.boot_partition.menu import Menu
from bootc_live.landing.disk.boot_partition.programs import grub_environment, install_grub
from bootc_live.rootfs.boot_files.files import BootFile

# The kernel gets this, too.
_ADDED = f"BOOT_IMAGE=/{PREFIX}/{'0' * 64}/vmlinuz "


@dataclass(frozen=True)
class Grub(Menu):
    """GRUB. Type 1 entries are written as well: they say what an entry is, to this program and to others.

    ``chain`` accepts only a GRUB that is signed, behind shim.
    """

    chain: bool = False
    _added: ClassVar[int] = len(_ADDED)

    def install(self, root: str, boot: str, esp: Esp | None = None) -> None:
        """Copy GRUB out of the tree ``root``, or replace it by the one there."""
        install_grub(root, boot, CONFIGURATION, write_block({VARIABLE: ""}), chain=self.chain, esp=esp)

    def entries(self, boot: str) -> list[Entry]:
        """Return the entries, the one that is started next first."""
        with boot_partition(boot):
            found = []
            for name in self._names(boot):
                below = f"/{ENTRIES}/{name.identity}.conf"
                if os.path.isfile(boot + below) and os.path.isfile(self._snippet(boot, name)):
                    text = files.content(boot + below).decode(errors="replace")
                    found.append(parse_entry(text, name, below))
        return sorted_entries([entry for entry in found if entry.kernel])

    def broken(self, boot: str) -> list[EntryName]:
        """Return the names of those of which a file is missing or damaged: they may start nothing, or something else.

        What the environment block names is an entry, whatever is left of it.
        """
        with boot_partition(boot):
            whole = {entry.name.deployment for entry in self.entries(boot) if self._starts(boot, entry)}
            return [name for name in self._names(boot) if name.deployment not in whole]

    def damaged(self, boot: str) -> list[str]:
        """Return the paths, from the top, of what was changed: directories with kernels, and the environment block."""
        with boot_partition(boot):
            lost = [] if self._named(boot) is not None else [f"/{os.path.relpath(grub_environment(boot), boot)}"]
            return [*lost, *super().damaged(boot)]

    def _tidy(self, boot: str) -> None:
        if self._named(boot) is None:
            # GRUB would start anything, and count nothing.
            self._set(boot, self._names(boot))
        super()._tidy(boot)

    def _put(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:
        menu_entry(entry)
        super()._put(boot, entry, kernel, initrd)

    def _write(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:
        if initrd is None:
            raise ConfigError("GRUB cannot start a unified kernel image here", hint="choose the boot style UKI")
        paths = add_kernel(boot, kernel, initrd)
        self._switch(boot, replace(entry, kernel=paths[0], initrd=paths[1]))

    def _rename(self, boot: str, entry: Entry, name: EntryName) -> None:
        if name.order == entry.name.order:
            self._set(boot, [name, *self._without(boot, name.deployment)])
        else:
            self._switch(boot, replace(entry, name=name))

    def _drop(self, boot: str, deployment: int) -> None:
        others = self._without(boot, deployment)
        if others != self._names(boot):
            self._set(boot, others)

    def _switch(self, boot: str, entry: Entry) -> None:
        """Write the files of an entry, and then the environment block that names it."""
        for path, text in (
            (os.path.join(boot, ENTRIES, f"{entry.name.identity}.conf"), entry_text(entry)),
            (self._snippet(boot, entry.name), menu_entry(entry)),
        ):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            files.write_small(path, text.encode())
        self._set(boot, [entry.name, *self._without(boot, entry.name.deployment)])

    def _snippet(self, boot: str, name: EntryName) -> str:
        return os.path.join(boot, SNIPPETS, f"{name.identity.removeprefix(f'{PREFIX}-')}.cfg")

    def _without(self, boot: str, deployment: int) -> list[EntryName]:
        return [name for name in self._names(boot) if name.deployment != deployment]

    def _names(self, boot: str) -> list[EntryName]:
        """Return the entries that the environment block names; all that are there if it names none."""
        stems = [file.removesuffix(".conf") for file in files.names(os.path.join(boot, ENTRIES))]
        return self._named(boot) or [name for name in map(parse_name, stems) if name is not None]

    def _named(self, boot: str) -> list[EntryName] | None:
        """Return the entries that the environment block names; None if it is damaged."""
        words = self._variables(boot).get(VARIABLE)
        found = [parse_name(f"{PREFIX}-{word}") for word in (words or "").split()]
        names = [name for name in found if name is not None]
        return None if words is None or len(names) < len(found) else names

    def _variables(self, boot: str) -> dict[str, str]:
        try:
            return read_block(files.content(grub_environment(boot)))
        except (FileNotFoundError, ValueError):
            return {}

    def _set(self, boot: str, names: list[EntryName]) -> None:
        words = [environment_word(name) for name in sorted(names, key=lambda name: -name.order)]
        try:
            block = write_block({**self._variables(boot), VARIABLE: " ".join(words)})
        except ValueError as error:
            raise LandingError(
                f"GRUB's environment block cannot name {len(words)} entries: {error}",
                hint="remove deployments that are no longer needed",
            ) from error
        path = grub_environment(boot)
        if os.path.isfile(path) and os.path.getsize(path) == len(block):
            files.overwrite(path, block)
        else:
            files.replace(path, [block])

    def _starts(self, boot: str, entry: Entry) -> bool:
        """Return whether the script of an entry starts its files with its root; all else may be of another version."""
        script = files.content(self._snippet(boot, entry.name)).decode(errors="replace")
        root = (word for word in entry.cmdline.split() if word.startswith("root="))
        return all(word in script for word in (entry.kernel, entry.initrd, *root))

    def _replaced(self, boot: str) -> list[str]:
        named = {name.identity for name in self._names(boot)}
        places = ((os.path.join(boot, ENTRIES), ".conf", ""), (os.path.join(boot, SNIPPETS), ".cfg", f"{PREFIX}-"))
        found = files.unfinished(*(directory for directory, *_ in places))
        for directory, ending, prefix in places:
            for file in files.names(directory):
                stem = prefix + file.removesuffix(ending)
                path = os.path.join(directory, file)
                if file.endswith(ending) and parse_name(stem) and stem not in named and os.path.isfile(path):
                    found.append(path)
        return found
