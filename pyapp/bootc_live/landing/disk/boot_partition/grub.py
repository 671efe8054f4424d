"""GRUB: what is started next is in its environment block, one sector that is written in place."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

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
from bootc_live.landing.disk.boot_partition.interface import (
    Esp,
    check_new,
    check_remove,
    check_texts,
    counted,
    entry_of,
    sorted_entries,
)
from bootc_live.landing.disk.boot_partition.kernels import add_kernel, damaged_kernels, remove_unused, unused
from bootc_live.landing.disk.boot_partition.programs import grub_environment, install_grub
from bootc_live.rootfs.boot_files.files import BootFile

# The kernel gets this, too.
_ADDED = f"BOOT_IMAGE=/{PREFIX}/{'0' * 64}/vmlinuz "


@dataclass(frozen=True)
class Grub:
    """GRUB. Type 1 entries are written as well: they say what an entry is, to this program and to others.

    ``chain`` accepts only a GRUB that is signed, behind shim.
    """

    chain: bool = False

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
        return sorted_entries(found)

    def default(self, boot: str) -> Entry | None:
        """Return the entry that is started next, or None."""
        return next(iter(self.entries(boot)), None)

    def add(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> Entry:
        """Write an entry and its files, and return it with its paths."""
        check_new(entry.name, self.entries(boot))
        check_texts(entry, len(_ADDED))
        menu_entry(entry)
        if initrd is None:
            raise ConfigError("GRUB cannot start a unified kernel image here", hint="choose the boot style UKI")
        with boot_partition(boot):
            self._tidy(boot)
            paths = add_kernel(boot, kernel, initrd)
            self._switch(boot, replace(entry, kernel=paths[0], initrd=paths[1]))
        return entry_of(self.entries(boot), entry.name.deployment)

    def promote(self, boot: str, deployment: int, order: int, left: int | None = None) -> Entry:
        """Give the entry of a deployment another order and counter, and return it."""
        name = EntryName(order, deployment, left)
        check_new(name, self.entries(boot))
        with boot_partition(boot):
            self._tidy(boot)
            old = entry_of(self.entries(boot), deployment)
            if not old.kernel:
                raise LandingError(
                    f"the boot entry {old.path!r} is damaged", hint="choose another deployment, or upgrade"
                )
            self._switch(boot, replace(old, name=name))
        return entry_of(self.entries(boot), deployment)

    def bless(self, boot: str, deployment: int) -> None:
        """Remove the counter of an entry."""
        with boot_partition(boot):
            self._tidy(boot)
            entry = entry_of(self.entries(boot), deployment)
            if entry.name.left is not None:
                self._set(boot, [EntryName(entry.name.order, deployment), *self._without(boot, deployment)])

    def count(self, boot: str, deployment: int) -> None:
        """Take a try from the entry of a deployment, if it is counted."""
        with boot_partition(boot):
            self._tidy(boot)
            name = entry_of(self.entries(boot), deployment).name
            self._set(boot, [counted(name), *self._without(boot, deployment)])

    def remove(self, boot: str, deployment: int) -> None:
        """Remove the entry of a deployment, if there is one, and files that no other one uses."""
        present = self.entries(boot)
        check_remove(present, deployment)
        with boot_partition(boot):
            if any(entry.name.deployment == deployment for entry in present):
                self._set(boot, self._without(boot, deployment))
            self._tidy(boot)

    def _switch(self, boot: str, entry: Entry) -> None:
        """Write the files of an entry, and then the environment block that names it."""
        for path, text in (
            (os.path.join(boot, ENTRIES, f"{entry.name.identity}.conf"), entry_text(entry)),
            (self._snippet(boot, entry.name), menu_entry(entry)),
        ):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            files.create(path, [text.encode()])
        self._set(boot, [entry.name, *self._without(boot, entry.name.deployment)])
        self._tidy(boot)

    def _snippet(self, boot: str, name: EntryName) -> str:
        return os.path.join(boot, SNIPPETS, f"{name.identity.removeprefix(f'{PREFIX}-')}.cfg")

    def _without(self, boot: str, deployment: int) -> list[EntryName]:
        return [entry.name for entry in self.entries(boot) if entry.name.deployment != deployment]

    def _names(self, boot: str) -> list[EntryName]:
        """Return the entries that the environment block names; all that are there if it names none."""
        words = self._variables(boot).get(VARIABLE, "").split()
        found = [parse_name(f"{PREFIX}-{word}") for word in words]
        if not any(found):
            stems = [file[: -len(".conf")] for file in files.names(os.path.join(boot, ENTRIES)) if ".conf" in file]
            found = [parse_name(stem) for stem in stems]
        return [name for name in found if name is not None]

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

    def leftovers(self, boot: str) -> list[str]:
        """Return the paths of what the environment block does not name, and of what no entry uses."""
        with boot_partition(boot):
            return [*self._unnamed(boot), *unused(boot)]

    def tidy(self, boot: str) -> None:
        """Remove them."""
        with boot_partition(boot):
            self._tidy(boot)

    def damaged(self, boot: str) -> list[str]:
        """Return the paths, from the top, of what entries start that is not as it was written."""
        with boot_partition(boot):
            changed = [
                f"/{os.path.relpath(self._snippet(boot, entry.name), boot)}"
                for entry in self.entries(boot)
                if not self._starts(boot, entry)
            ]
            return [*changed, *damaged_kernels(boot)]

    def broken(self, boot: str) -> list[EntryName]:  # noqa: ARG002 # GRUB starts what its own scripts say
        """Return nothing: an entry without its script is none."""
        return []

    def restore(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:  # noqa: ARG002
        """Raise LandingError: there is no such entry."""
        raise LandingError(f"{entry.name} cannot be written again", hint="add another deployment")

    def _starts(self, boot: str, entry: Entry) -> bool:
        """Return whether the script of an entry starts its files with its root; all else may be of another version."""
        script = files.content(self._snippet(boot, entry.name)).decode(errors="replace")
        root = (word for word in entry.cmdline.split() if word.startswith("root="))
        return all(word in script for word in (entry.kernel, entry.initrd, *root))

    def _tidy(self, boot: str) -> None:
        for path in self._unnamed(boot):
            files.remove_file(path)
        remove_unused(boot)

    def _unnamed(self, boot: str) -> list[str]:
        named, found = {entry.name.identity for entry in self.entries(boot)}, []
        for folder, ending, prefix in ((ENTRIES, ".conf", ""), (SNIPPETS, ".cfg", f"{PREFIX}-")):
            for file in files.names(os.path.join(boot, folder)):
                stem = prefix + file.removesuffix(ending)
                path = os.path.join(boot, folder, file)
                if file.endswith(ending) and parse_name(stem) and stem not in named and os.path.isfile(path):
                    found.append(path)
        return found
