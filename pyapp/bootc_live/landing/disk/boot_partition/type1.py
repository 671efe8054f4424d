"""systemd-boot with entries in files of type 1 of the Boot Loader Specification."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from bootc_live.artifacts.uki import Signing
from bootc_live.formats.boot_entry import Entry, EntryName, entry_text, parse_entry
from bootc_live.landing.disk.boot_partition import files
from bootc_live.landing.disk.boot_partition.entry_files import EntryFiles
from bootc_live.landing.disk.boot_partition.kernels import add_kernel
from bootc_live.landing.disk.boot_partition.programs import install_systemd_boot
from bootc_live.rootfs.boot_files.files import BootFile


@dataclass(frozen=True)
class SystemdBoot(EntryFiles):
    """systemd-boot with type 1 entries; ``signing`` signs the boot loader, not the kernels."""

    signing: Signing | None = None
    _directory = files.ENTRIES
    _ending = ".conf"

    def install(self, root: str, boot: str) -> None:
        """Copy systemd-boot out of the tree ``root``, or replace it by the one there."""
        install_systemd_boot(root, boot, self.signing)

    def _read(self, path: str, name: EntryName, below: str) -> Entry:
        return parse_entry(files.content(path).decode(errors="replace"), name, below)

    def _write(self, boot: str, path: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:
        paths = add_kernel(boot, kernel, initrd)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._move(replace(entry, kernel=paths[0], initrd=paths[1]), "", path)

    def _move(self, entry: Entry, old: str, new: str) -> None:  # noqa: ARG002 # the next clean-up removes it
        files.create(new, [entry_text(entry).encode()])
