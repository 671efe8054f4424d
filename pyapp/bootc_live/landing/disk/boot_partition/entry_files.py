"""Menu entries that are files with counters in their names, as systemd-boot reads and renames them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

from bootc_live.formats.boot_entry import Entry, EntryName, parse_name
from bootc_live.landing.disk.boot_partition.files import boot_partition, names, remove_file, rename, unfinished
from bootc_live.landing.disk.boot_partition.interface import (
    check_new,
    check_remove,
    check_texts,
    counted,
    entry_of,
    sorted_entries,
)
from bootc_live.landing.disk.boot_partition.kernels import damaged_kernels, remove_unused, unused
from bootc_live.rootfs.boot_files.files import BootFile


class EntryFiles(ABC):
    """All of ``BootLoader`` but ``install``, for entries that are files: ``_places`` are directories by file ending."""

    _places: ClassVar[Mapping[str, str]]

    @abstractmethod
    def _read(self, path: str, name: EntryName, below: str) -> Entry:
        """Return the entry that the file ``path`` is."""

    @abstractmethod
    def _write(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:
        """Write all files of a new entry, the one that makes it one last."""

    @abstractmethod
    def _move(self, entry: Entry, old: str, new: str) -> None:
        """Make the file ``new``, for an entry with another name, of the file ``old``, which may remain."""

    @abstractmethod
    def _restore(self, boot: str, path: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:
        """Write the file ``path`` of an entry that starts nothing again, after its other files."""

    def entries(self, boot: str) -> list[Entry]:
        """Return the entries, the one that is started next first."""
        with boot_partition(boot):
            found = [self._read(boot + below, name, below) for below, name in self._files(boot)]
        # A power cut may leave an empty file.
        return sorted_entries([entry for entry in found if entry.kernel])

    def default(self, boot: str) -> Entry | None:
        """Return the entry that is started next, or None."""
        return next(iter(self.entries(boot)), None)

    def add(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> Entry:
        """Write an entry and its files, and return it with its paths."""
        check_new(entry.name, self.entries(boot))
        check_texts(entry)
        with boot_partition(boot):
            self._tidy(boot)
            self._write(boot, entry, kernel, initrd)
            self._tidy(boot)
        return entry_of(self.entries(boot), entry.name.deployment)

    def promote(self, boot: str, deployment: int, order: int, left: int | None = None) -> Entry:
        """Give the entry of a deployment another order and counter, and return it."""
        name = EntryName(order, deployment, left)
        check_new(name, self.entries(boot))
        with boot_partition(boot):
            self._tidy(boot)
            old = entry_of(self.entries(boot), deployment)
            self._rename(boot, old, name)
            self._tidy(boot)
        return entry_of(self.entries(boot), deployment)

    def bless(self, boot: str, deployment: int) -> None:
        """Remove the counter of an entry."""
        with boot_partition(boot):
            self._tidy(boot)
            entry = entry_of(self.entries(boot), deployment)
            if entry.name.left is not None:
                self._rename(boot, entry, EntryName(entry.name.order, deployment))
                self._tidy(boot)

    def count(self, boot: str, deployment: int) -> None:
        """Take a try from the entry of a deployment, if it is counted."""
        with boot_partition(boot):
            self._tidy(boot)
            entry = entry_of(self.entries(boot), deployment)
            if entry.name.left:
                ending = os.path.splitext(entry.path)[1].lower()
                # As the boot loader does: of two files, that with more tries would be the one.
                rename(boot + entry.path, self._path(boot, counted(entry.name), ending))

    def remove(self, boot: str, deployment: int) -> None:
        """Remove the entry of a deployment, if there is one, and files that no other one uses."""
        present = self.entries(boot)
        check_remove(present, deployment)
        with boot_partition(boot):
            gone = [entry.path for entry in present if entry.name.deployment == deployment]
            for path in [*gone, *(below for below, name in self._broken(boot) if name.deployment == deployment)]:
                remove_file(boot + path)
            self._tidy(boot)

    def _path(self, boot: str, name: EntryName, ending: str) -> str:
        return os.path.join(boot, self._places[ending], f"{name}{ending}")

    def _rename(self, boot: str, entry: Entry, name: EntryName) -> None:
        ending = os.path.splitext(entry.path)[1].lower()
        self._move(replace(entry, name=name), boot + entry.path, self._path(boot, name, ending))

    def leftovers(self, boot: str) -> list[str]:
        """Return the paths of what no entry uses, and of entries that newer ones of the same deployment replaced."""
        with boot_partition(boot):
            return [*self._replaced(boot), *unused(boot, unless_whole=bool(self._broken(boot)))]

    def tidy(self, boot: str) -> None:
        """Remove them."""
        with boot_partition(boot):
            self._tidy(boot)

    def damaged(self, boot: str) -> list[str]:
        """Return the paths, from the top, of what entries start that is not as it was written."""
        with boot_partition(boot):
            return damaged_kernels(boot)

    def broken(self, boot: str) -> list[EntryName]:
        """Return the names of entries that start nothing, of deployments that have no other entry."""
        with boot_partition(boot):
            return [name for _, name in self._broken(boot)]

    def discard_broken(self, boot: str) -> None:
        """Remove their files: what an interrupted installation left is begun again."""
        with boot_partition(boot):
            for below, _ in self._broken(boot):
                remove_file(boot + below)

    def restore(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:
        """Write one of these entries again, with its files."""
        check_texts(entry)
        with boot_partition(boot):
            self._tidy(boot)
            for below, name in self._broken(boot):
                if name == entry.name:
                    self._restore(boot, boot + below, entry, kernel, initrd)
            self._tidy(boot)

    def _broken(self, boot: str) -> list[tuple[str, EntryName]]:
        """Return the paths, from the top, of files that start nothing, with their names."""
        bootable = {entry.name.deployment for entry in self.entries(boot)}
        newest = max(bootable, default=None)
        # A power cut leaves an empty file of a new entry.
        return [
            (below, name)
            for below, name in self._files(boot)
            if name.deployment not in bootable
            and (newest is None or name.deployment < newest or os.path.getsize(boot + below))
        ]

    def _tidy(self, boot: str) -> None:
        for path in self._replaced(boot):
            remove_file(path)
        # What the removed ones used, too.
        remove_unused(boot, unless_whole=bool(self._broken(boot)))

    def _replaced(self, boot: str) -> list[str]:
        present = self.entries(boot)
        current = {entry_of(present, entry.name.deployment).path for entry in present}
        # The only one of an older deployment can be written again.
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
