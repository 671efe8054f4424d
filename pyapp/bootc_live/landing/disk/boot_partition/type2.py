"""systemd-boot with unified kernel images, type 2 of the Boot Loader Specification."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass

from bootc_live.artifacts.uki import Signing, UkiParts, build_uki, check_tools, os_release
from bootc_live.base.errors import ConfigError, ImageError
from bootc_live.formats import pe
from bootc_live.formats.boot_entry import Entry, EntryName
from bootc_live.landing.disk.boot_partition import files
from bootc_live.landing.disk.boot_partition.entry_files import EntryFiles
from bootc_live.landing.disk.boot_partition.interface import check_texts
from bootc_live.landing.disk.boot_partition.programs import install_systemd_boot
from bootc_live.rootfs.boot_files.files import BootFile

# Kernel command line and os-release.
_MOST_TEXT = 64 * 2**10


@dataclass(frozen=True)
class SystemdBootUki(EntryFiles):
    """systemd-boot with UKIs, which are made here: each has the command line of its deployment.

    ``signing`` signs them and the boot loader. ``scratch`` is a directory with space for two of them, the one for
    temporary files by default. Another order is another name of the same file, for the UKI has no version.
    """

    signing: Signing | None = None
    scratch: str | None = None
    _directory = files.UKIS
    _ending = ".efi"

    def install(self, root: str, boot: str) -> None:
        """Copy systemd-boot out of the tree ``root``, or replace it by the one there."""
        install_systemd_boot(root, boot, self.signing)

    def add(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> Entry:
        """Make a UKI and write it, and return its entry."""
        check_texts(entry)
        if initrd is None:
            raise ConfigError(
                "the image brings a unified kernel image, which cannot be put into another one",
                hint="choose the boot style systemd-boot, which starts it unchanged",
            )
        ukify = check_tools(self.signing)
        title = re.sub(r'["\\$`]', "", entry.title)
        parts = UkiParts(kernel, (initrd,), entry.cmdline, os_release(title))
        with tempfile.TemporaryDirectory(prefix="bootc-live-", dir=self.scratch) as directory:
            output = os.path.join(directory, "made.efi")
            build_uki(ukify, output, parts, directory, self.signing)
            return super().add(boot, entry, BootFile(output, 0, os.path.getsize(output)), None)

    def _write(self, boot: str, path: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:  # noqa: ARG002 # the kernel is the UKI
        files.require_space(boot, kernel.size)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        files.replace(path, kernel.chunks())

    def _move(self, entry: Entry, old: str, new: str) -> None:  # noqa: ARG002 # it says all by its name
        files.rename(old, new)

    def _read(self, path: str, name: EntryName, below: str) -> Entry:
        file = BootFile(path, 0, os.path.getsize(path))
        try:
            found = pe.sections(file.read_at, file.size)
        except ImageError:
            found = {}
        texts = {key: file.part(*found.get(key, (0, 0))) for key in (".cmdline", ".osrel")}
        cmdline, release = (text.read_at(0, _MOST_TEXT).decode(errors="replace") for text in texts.values())
        title = re.search(r'^PRETTY_NAME="(.*)"$', release, re.MULTILINE)
        return Entry(name, title[1] if title else "", cmdline.rstrip("\n\0"), kernel=below, path=below)
