"""Menu entries that are files with counters in their names, as systemd-boot reads and renames them."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

from bootc_live.formats.boot_entry import Entry, EntryName, parse_name
from bootc_live.landing.disk.boot_partition.files import boot_partition, names, remove_file, rename, unfinished
from bootc_live.landing.disk.boot_partition.interface import entry_of, sorted_entries
from bootc_live.landing.disk.boot_partition.menu import Menu


class EntryFiles(Menu):
    """A menu whose entries are files: ``_places`` are directories by file ending."""

    _places: ClassVar[Mapping[str, str]]

    @abstractmethod
    def _read(self, path: str, name: EntryName, below: str) -> Entry:
        """Return the entry that the file ``path`` is; without a kernel, it starts nothing."""

    @abstractmethod
    def _move(self, entry: Entry, old: str, new: str) -> None:
        """Make the file ``new``, for an entry with another name, of the file ``old``, which may remain."""

    def entries(self, boot: str) -> list[Entry]:
        """Return the entries, the one that is started next first."""
        with boot_partition(boot):
            found = [self._read(boot + below, name, below) for below, name in self._files(boot)]
        return sorted_entries([entry for entry in found if entry.kernel])

    def broken(self, boot: str) -> list[EntryName]:
        """Return the names of entries that start nothing, of deployments that have no other entry."""
        with boot_partition(boot):
            return [name for _, name in self._broken(boot)]

    def discard_broken(self, boot: str) -> None:
        """Remove their files: what an interrupted installation left is begun again."""
        with boot_partition(boot):
            for below, _ in self._broken(boot):
                remove_file(boot + below)

    def _path(self, boot: str, name: EntryName, ending: str) -> str:
        return os.path.join(boot, self._places[ending], f"{name}{ending}")

    def _rename(self, boot: str, entry: Entry, name: EntryName) -> None:
        old, new = boot + entry.path, self._path(boot, name, os.path.splitext(entry.path)[1].lower())
        if name.order == entry.name.order and name.left is not None:
            # As the boot loader does: of two files, that with more tries would be the one.
            rename(old, new)
        else:
            self._move(replace(entry, name=name), old, new)

    def _drop(self, boot: str, deployment: int) -> None:
        for below, name in [*self._files(boot)]:
            if name.deployment == deployment:
                remove_file(boot + below)

    def _broken(self, boot: str) -> list[tuple[str, EntryName]]:
        """Return the paths, from the top, of files that start nothing, with their names."""
        bootable = {entry.name.deployment for entry in self.entries(boot)}
        return [(below, name) for below, name in self._files(boot) if name.deployment not in bootable]

    def _replaced(self, boot: str) -> list[str]:
        present = self.entries(boot)
        current = {entry_of(present, entry.name.deployment).path for entry in present}
        # The only one of a deployment can be written again.
        kept = current | {below for below, _ in self._broken(boot)}
        here = (boot + below for below, _ in self._files(boot) if below not in kept)
        return [*unfinished(*(os.path.join(boot, directory) for directory in self._places.values())), *here]

    def _files(self, boot: str) -> Iterator[tuple[str, EntryName]]:
        """Yield the paths of the files that make entries, from the top of the boot partition, and their names."""
        for wanted, directory in self._places.items():
            for file in names(os.path.join(boot, directory)):
                stem, ending = os.path.splitext(file)
                name = parse_name(stem) if ending.lower() == wanted else None
                if name is not None and os.path.isfile(os.path.join(boot, directory, file)):
                    yield f"/{directory}/{file}", name
