"""What all boot loaders do in the same way with the entries of their menus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from bootc_live.formats.boot_entry import Entry, EntryName
from bootc_live.landing.disk.boot_partition.files import boot_partition, remove_file
from bootc_live.landing.disk.boot_partition.interface import (
    check_new,
    check_remove,
    check_texts,
    counted,
    entry_of,
)
from bootc_live.landing.disk.boot_partition.kernels import damaged_kernels, remove_unused, unused
from bootc_live.rootfs.boot_files.files import BootFile


class Menu(ABC):
    """All of ``BootLoader`` but ``install``, ``entries`` and ``broken``."""

    # Bytes that the boot loader adds to the kernel command line.
    _added: ClassVar[int] = 0

    @abstractmethod
    def entries(self, boot: str) -> list[Entry]:
        """Return the entries, the one that is started next first."""

    @abstractmethod
    def broken(self, boot: str) -> list[EntryName]:
        """Return the names of entries that have to be written again."""

    @abstractmethod
    def _write(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:
        """Write all files of an entry, the one that makes it one last; those that are there are replaced."""

    @abstractmethod
    def _rename(self, boot: str, entry: Entry, name: EntryName) -> None:
        """Give an entry another name; what it had before may remain, unless it has fewer tries then."""

    @abstractmethod
    def _drop(self, boot: str, deployment: int) -> None:
        """Remove what makes entries of a deployment."""

    @abstractmethod
    def _replaced(self, boot: str) -> list[str]:
        """Return the paths of unfinished files, and of those that newer ones of the same deployment replaced."""

    def default(self, boot: str) -> Entry | None:
        """Return the entry that is started next, or None."""
        return next(iter(self.entries(boot)), None)

    def add(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> Entry:
        """Write an entry and its files, and return it with its paths."""
        check_new(entry.name, self.entries(boot))
        self._put(boot, entry, kernel, initrd)
        return entry_of(self.entries(boot), entry.name.deployment)

    def restore(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:
        """Write an entry again, with its files."""
        self._put(boot, entry, kernel, initrd)

    def _put(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:
        check_texts(entry, self._added)
        with boot_partition(boot):
            self._tidy(boot)
            self._write(boot, entry, kernel, initrd)
            self._tidy(boot)

    def promote(self, boot: str, deployment: int, order: int, left: int | None = None) -> Entry:
        """Give the entry of a deployment another order and counter, and return it."""
        name = EntryName(order, deployment, left)
        check_new(name, self.entries(boot))
        with boot_partition(boot):
            self._tidy(boot)
            self._rename(boot, entry_of(self.entries(boot), deployment), name)
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
                self._rename(boot, entry, counted(entry.name))

    def remove(self, boot: str, deployment: int) -> None:
        """Remove the entry of a deployment, if there is one, and files that no other one uses."""
        check_remove(self.entries(boot), deployment)
        with boot_partition(boot):
            self._drop(boot, deployment)
            self._tidy(boot)

    def leftovers(self, boot: str) -> list[str]:
        """Return the paths of what no entry uses, and of entries that newer ones of the same deployment replaced."""
        with boot_partition(boot):
            return [*self._replaced(boot), *unused(boot, unless_whole=bool(self.broken(boot)))]

    def tidy(self, boot: str) -> None:
        """Remove them."""
        with boot_partition(boot):
            self._tidy(boot)

    def damaged(self, boot: str) -> list[str]:
        """Return the paths, from the top, of directories with kernels that are not as they were written."""
        with boot_partition(boot):
            return damaged_kernels(boot)

    def _tidy(self, boot: str) -> None:
        for path in self._replaced(boot):
            remove_file(path)
        # What the removed ones used, too.
        remove_unused(boot, unless_whole=bool(self.broken(boot)))
