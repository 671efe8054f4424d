"""systemd-boot with entries in files of type 1 of the Boot Loader Specification."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from bootc_live.artifacts.uki import Signing
from bootc_live.base.errors import ConfigError
from bootc_live.formats.boot_entry import Entry, EntryName, entry_text, parse_entry
from bootc_live.landing.disk.boot_partition import files
from bootc_live.landing.disk.boot_partition.entry_files import EntryFiles
from bootc_live.landing.disk.boot_partition.interface import Esp
from bootc_live.landing.disk.boot_partition.kernels import add_kernel
from bootc_live.landing.disk.boot_partition.programs import install_systemd_boot
from bootc_live.rootfs.boot_files.files import BootFile


@dataclass(frozen=True)
class SystemdBoot(EntryFiles):
    """systemd-boot with type 1 entries; ``signing`` signs the boot loader, not the kernels.

    ``chain`` accepts only a boot loader that is signed, behind shim.
    """

    signing: Signing | None = None
    chain: bool = field(default=False, kw_only=True)
    _places: ClassVar[Mapping[str, str]] = {".conf": files.ENTRIES}

    def install(self, root: str, boot: str, esp: Esp | None = None) -> None:
        """Copy systemd-boot out of the tree ``root``, or replace it by the one there."""
        install_systemd_boot(root, boot, self.signing, chain=self.chain, esp=esp)

    def _read(self, path: str, name: EntryName, below: str) -> Entry:
        return parse_entry(files.content(path).decode(errors="replace"), name, below)

    def _write(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:
        if initrd is None:
            raise ConfigError("systemd-boot gets a kernel and an initrd here", hint="choose the boot style uki")
        paths = add_kernel(boot, kernel, initrd)
        self._write_file(boot, replace(entry, kernel=paths[0], initrd=paths[1]))

    def _write_file(self, boot: str, entry: Entry) -> None:
        path = self._path(boot, entry.name, ".conf")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._move(entry, "", path)

    def _move(self, entry: Entry, old: str, new: str) -> None:  # noqa: ARG002 # the next clean-up removes it
        files.write_small(new, entry_text(entry).encode())
