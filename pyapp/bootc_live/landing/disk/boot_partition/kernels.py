"""Directories with a kernel and its initrd, named by their content and shared by deployments."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress

from bootc_live.formats.boot_entry import PREFIX
from bootc_live.landing.disk.boot_partition.files import (
    ENTRIES,
    content,
    create,
    names,
    remove_directory,
    replace,
    require_space,
)
from bootc_live.landing.disk.boot_partition.grub_script import SNIPPETS
from bootc_live.rootfs.boot_files.files import BootFile

_DIGEST = re.compile("[0-9a-f]{64}")
# Entries of others may share our kernels.
_USE = re.compile(rb"/bootc-live/([0-9a-f]{64})/")
# An entry's own files.
_SMALL = 8 * 1024
# What systemd-stub(7) adds to a unified kernel image with this name: kernel arguments.
_UKI, _ADDONS = "linux.efi", "linux.efi.extra.d"
_ADDON = f"{_ADDONS}/bootc-live.addon.efi"


def add_kernel(boot: str, kernel: BootFile, initrd: BootFile) -> tuple[str, str]:
    """Write kernel and initrd, unless they are there; return their paths, from the top of the boot partition.

    Call ``remove_unused`` before: what an interrupted run has left is not whole, and no entry names it.
    """
    below = _add(boot, {"vmlinuz": kernel, "initrd": initrd})
    return f"{below}/vmlinuz", f"{below}/initrd"


def add_uki(boot: str, uki: BootFile, addon: BootFile) -> str:
    """Write a unified kernel image, and the addon with its kernel arguments; return its path, as ``add_kernel``."""
    return f"{_add(boot, {_UKI: uki, _ADDON: addon})}/{_UKI}"


def addon_of(uki: str) -> str:
    """Return the path of the addon of a unified kernel image that ``add_uki`` has written."""
    return os.path.join(os.path.dirname(uki), _ADDON)


def _add(boot: str, files: dict[str, BootFile]) -> str:
    directory = os.path.join(boot, PREFIX, _digest(files))
    if _whole(boot, os.path.basename(directory)):
        require_space(boot, _SMALL)
    else:
        require_space(boot, _SMALL, *(file.size for file in files.values()))
        # What is damaged may be named by entries.
        there = os.path.isdir(directory)
        try:
            for name, file in files.items():
                path = os.path.join(directory, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                (replace if there else create)(path, file.chunks())
        except OSError:
            if not there:
                with suppress(OSError):
                    _remove(directory)
            raise
    return f"/{PREFIX}/{os.path.basename(directory)}"


def _remove(directory: str) -> None:
    addons = os.path.join(directory, _ADDONS)
    if os.path.isdir(addons):
        remove_directory(addons)
    remove_directory(directory)


def restore_kernel(boot: str, path: str, kernel: BootFile, initrd: BootFile | None) -> bool:
    """Write what starts at a path from the top again, if these are its files; return whether they are.

    Without initrd, the kernel is a unified kernel image, whose addon is there. Raise LandingError and OSError.
    """
    directory = boot + path
    new = {_UKI: kernel} if initrd is None else {"vmlinuz": kernel, "initrd": initrd}
    kept = _present(directory, _ADDON) if initrd is None else {}
    if _digest(new | kept) != os.path.basename(path):
        return False
    require_space(boot, *(file.size for file in new.values()))
    os.makedirs(directory, exist_ok=True)
    for name, file in new.items():
        replace(os.path.join(directory, name), file.chunks())
    return True


def unused(boot: str, *, unless_whole: bool = False) -> list[str]:
    """Return the paths of directories that no type 1 entry names; whole ones may be of an entry that is damaged."""
    used, top = _used(boot), os.path.join(boot, PREFIX)
    found = [name for name in names(top) if _DIGEST.fullmatch(name) and name not in used]
    return [os.path.join(top, name) for name in found if not (unless_whole and _whole(boot, name))]


def remove_unused(boot: str, *, unless_whole: bool = False) -> None:
    """Remove them."""
    for path in unused(boot, unless_whole=unless_whole):
        _remove(path)


def damaged_kernels(boot: str) -> list[str]:
    """Return the paths of directories that entries name, whose files are not those that they are named after."""
    return [f"/{PREFIX}/{digest}" for digest in sorted(_used(boot)) if not _whole(boot, digest)]


def _whole(boot: str, digest: str) -> bool:
    try:
        return digest == _digest(_present(os.path.join(boot, PREFIX, digest), "vmlinuz", "initrd", _UKI, _ADDON))
    except OSError:
        return False


def _present(directory: str, *names: str) -> dict[str, BootFile]:
    """Return those of the files in a directory that are there."""
    paths = {name: os.path.join(directory, name) for name in names}
    return {name: BootFile(path, 0, os.path.getsize(path)) for name, path in paths.items() if os.path.isfile(path)}


def _used(boot: str) -> set[str]:
    entries = os.path.join(boot, ENTRIES)
    paths = [os.path.join(entries, name) for name in names(entries) if name.lower().endswith(".conf")]
    # GRUB's own script may start one that a damaged entry does not name.
    scripts = os.path.join(boot, SNIPPETS)
    paths += [os.path.join(scripts, name) for name in names(scripts) if name.endswith(".cfg")]
    texts = [content(path) for path in paths if os.path.isfile(path)]
    return {digest.decode() for text in texts for digest in _USE.findall(text)}


def _digest(files: dict[str, BootFile]) -> str:
    digest = hashlib.sha256()
    for name, file in files.items():
        one = hashlib.sha256()
        for chunk in file.chunks():
            one.update(chunk)
        digest.update(f"{one.hexdigest()}  {name}\n".encode())
    return digest.hexdigest()
