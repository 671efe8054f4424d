"""systemd-boot with unified kernel images: type 2 of the Boot Loader Specification, and those that an image brings.

One that is made here has the command line of its deployment. One that an image brings stays as it is, with its
signature; what it lacks, it gets by an addon, and its entry is of type 1, for its own texts are those of its vendor.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from bootc_live.artifacts.uki import UkiParts, build_addon, build_uki, check_tools, os_release
from bootc_live.base.errors import ImageError
from bootc_live.config.cmdline.tokens import Token, split_cmdline
from bootc_live.formats import pe
from bootc_live.formats.boot_entry import Entry, EntryName
from bootc_live.landing.disk.boot_partition import files
from bootc_live.landing.disk.boot_partition.interface import check_texts
from bootc_live.landing.disk.boot_partition.kernels import add_uki, addon_of
from bootc_live.landing.disk.boot_partition.type1 import SystemdBoot
from bootc_live.rootfs.boot_files.files import BootFile

# Kernel command line and os-release.
_MOST_TEXT = 64 * 2**10
_STUB = re.compile(r"LoaderInfo: systemd-stub (\d+)")
# The first one that reads addons.
_LEAST_STUB = 254


@dataclass(frozen=True)
class SystemdBootUki(SystemdBoot):
    """systemd-boot with UKIs.

    ``signing`` signs those that are made here, addons, and the boot loader. ``scratch`` is a directory with space for
    two UKIs, the one for temporary files by default. Another order is another name of the same file, for a UKI has no
    version.
    """

    scratch: str | None = None
    _places: ClassVar[Mapping[str, str]] = {".efi": files.UKIS, ".conf": files.ENTRIES}

    def _put(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:
        """Make a UKI, or the addon of one that is brought, and write it."""
        check_texts(entry)
        ukify = check_tools(self.signing)
        with tempfile.TemporaryDirectory(prefix="bootc-live-", dir=self.scratch) as directory:
            output = os.path.join(directory, "made.efi")
            if initrd is None:
                brought = _texts(kernel)
                check_texts(entry, len(brought.cmdline.encode()) + 1)
                _check_stub(brought)
                _check_end(brought)
                build_addon(ukify, output, entry.cmdline, directory, self.signing)
                super()._put(boot, entry, kernel, _file(output))
                return
            title = re.sub(r'["\\$`]', "", entry.title)
            parts = UkiParts(kernel, (initrd,), entry.cmdline, os_release(title))
            build_uki(ukify, output, parts, directory, self.signing)
            super()._put(boot, entry, _file(output), None)

    def _write(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:
        """Write a UKI; one that was brought has an addon in the place of an initrd."""
        if initrd is not None:
            self._write_file(boot, replace(entry, kernel=add_uki(boot, kernel, initrd)))
            return
        path = self._path(boot, entry.name, ".efi")
        files.require_space(boot, kernel.size)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        files.replace(path, kernel.chunks())

    def _move(self, entry: Entry, old: str, new: str) -> None:
        if new.endswith(".conf"):
            super()._move(entry, old, new)
        else:
            # It says all by its name.
            files.rename(old, new)

    def _read(self, path: str, name: EntryName, below: str) -> Entry:
        if path.lower().endswith(".efi"):
            texts = _texts(_file(path))
            # One that cannot be read starts nothing.
            return Entry(name, texts.title, texts.cmdline, kernel=below if texts.cmdline else "", path=below)
        entry = super()._read(path, name, below)
        if entry.initrd:
            # Of another style: an installation that is begun again reads it.
            return entry
        uki = path.removesuffix(below) + entry.kernel
        brought, added = (_texts(_file(file)).cmdline if os.path.isfile(file) else "" for file in (uki, addon_of(uki)))
        # Without its addon, it does not say whose it is.
        return replace(entry, cmdline=f"{brought} {added}".strip() if added else "")


@dataclass(frozen=True)
class _Texts:
    """What a UKI or an addon says: its kernel arguments, the title of its system, and what its stub is."""

    cmdline: str
    title: str
    stub: str


def _texts(file: BootFile) -> _Texts:
    try:
        found = pe.sections(file.read_at, file.size)
    except ImageError:
        found = {}
    parts = [file.part(*found.get(name, (0, 0))) for name in (".cmdline", ".osrel", ".sdmagic")]
    cmdline, release, stub = (part.read_at(0, _MOST_TEXT).decode(errors="replace") for part in parts)
    title = re.search(r'^PRETTY_NAME="(.*)"$', release, re.MULTILINE)
    return _Texts(cmdline.rstrip("\n\0"), title[1] if title else "", stub)


def _check_stub(brought: _Texts) -> None:
    found = _STUB.search(brought.stub)
    if found is None or int(found[1]) < _LEAST_STUB:
        said = "another stub than systemd's" if found is None else f"systemd-stub {found[1]}"
        raise ImageError(
            f"the unified kernel image that the image brings has {said}, which takes no arguments from an addon",
            hint=f"make it with systemd {_LEAST_STUB} or later, or leave it out of the image",
        )


def _check_end(brought: _Texts) -> None:
    """Raise ImageError if the arguments of an addon, which follow, would be part of the last one."""
    if split_cmdline(f"{brought.cmdline} x")[-1:] != [Token("x", None)]:
        raise ImageError(
            f"the kernel arguments {brought.cmdline!r} in the image's unified kernel image swallow others",
            hint="close their quotes, and leave out a lone --",
        )


def _file(path: str) -> BootFile:
    return BootFile(path, 0, os.path.getsize(path))
