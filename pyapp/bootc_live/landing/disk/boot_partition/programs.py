"""Copy boot loaders out of an image's tree to the names that UEFI firmware looks for.

Firmware starts ``EFI/BOOT/BOOTX64.EFI`` of a disk that has no boot variable. None is written: a disk made here has to
start elsewhere, too.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
import struct
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

from bootc_live.artifacts.uki import Signing
from bootc_live.base.errors import LandingError
from bootc_live.base.paths import resolve_below
from bootc_live.formats import pe
from bootc_live.formats.boot_entry import PREFIX
from bootc_live.landing.disk.boot_partition import files
from bootc_live.landing.disk.boot_partition.files import ENTRIES, UKIS, boot_partition
from bootc_live.landing.disk.boot_partition.interface import Esp
from bootc_live.system.run import require_program, run

_SYSTEMD = ("usr/lib/systemd/boot/efi/systemd-boot{machine}.efi",)
# Debian and its descendants; bootupd's payload; Fedora since 43.
_SHIM = (
    "usr/lib/shim/shim{machine}.efi",
    "usr/lib/bootupd/updates/EFI/*/shim{machine}.efi",
    "usr/lib/efi/shim/*/EFI/*/shim{machine}.efi",
)
_KEY_MANAGER = tuple(place.replace("shim{machine}", "mm{machine}") for place in _SHIM)
_GRUB = (
    "usr/lib/grub/*-efi-signed/grub{machine}.efi",
    "usr/lib/bootupd/updates/EFI/*/grub{machine}.efi",
    "usr/lib/efi/grub2/*/EFI/*/grub{machine}.efi",
    "usr/lib/grub/*-efi/monolithic/grub{machine}.efi",
)
_SIGNED = ".signed"
_ENVIRONMENT = "grubenv"
# Where GRUB's configuration is on a boot partition that it is not on itself, and what leads there.
_GRUB_APART = f"{PREFIX}/grub"
_LEAD = """# Written by bootc-live: all else is on the boot partition.
search --no-floppy --fs-uuid --set=root {uuid}
set prefix=($root)/{folder}
configfile ($root)/{folder}/grub.cfg
"""
_MACHINES = ("x64", "aa64")
# Entries of others are in the menu, but are not started unless somebody chooses them.
_CONFIGURATION = f"timeout 3\neditor no\ndefault {PREFIX}-*\n"
# GRUB's include/grub/kernel.h: magic, offset and size of the records; type and size of one.
_MODULES, _RECORD = struct.Struct("<I4xQQ"), struct.Struct("<II")
_MAGIC, _PREFIX_RECORD = 0x676D696D, 3


@dataclass(frozen=True)
class Programs:
    """Programs of a tree for one machine: a boot loader, and shim with its key manager if they are there."""

    machine: str
    loader: str
    signed: bool
    shim: str | None
    key_manager: str | None


def install_systemd_boot(
    root: str, boot: str, signing: Signing | None, *, chain: bool = False, esp: Esp | None = None
) -> None:
    """Copy systemd-boot and its configuration; a configuration that is there stays. Raise LandingError, RunError.

    ``chain`` accepts only a signed one, behind a signed shim. With ``esp``, that is where it goes; it finds ``boot``
    by the type of its partition, on the same disk.
    """
    top = boot if esp is None else esp.directory
    found = _programs(root, _SYSTEMD, "systemd-boot", "systemd-boot-efi (Fedora: systemd-boot-unsigned)")
    if chain:
        _check_chain(found, "systemd-boot", "systemd-boot-efi-amd64-signed and shim-signed")
    with boot_partition(top), ExitStack() as stack:
        if signing is not None:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="bootc-live-"))
            found = replace(found, loader=_sign(found.loader, scratch, signing), shim=None)
        elif not found.signed:
            # Shim would refuse it.
            found = replace(found, shim=None)
        folder = os.path.join(top, "EFI/systemd")
        files.remove_unfinished(folder, os.path.join(top, "loader"), os.path.join(boot, "loader"))
        files.copy_if_changed(found.loader, os.path.join(folder, f"systemd-boot{found.machine}.efi"), top)
        _install_removable(top, found)
        for name in (ENTRIES, UKIS):
            os.makedirs(os.path.join(boot, name), exist_ok=True)
        for path, text in ((f"{boot}/loader/entries.srel", "type1\n"), (f"{top}/loader/loader.conf", _CONFIGURATION)):
            if not os.path.exists(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                files.replace(path, [text.encode()])


def install_grub(
    root: str, boot: str, configuration: str, environment: bytes, *, chain: bool = False, esp: Esp | None = None
) -> None:
    """Copy GRUB and its configuration; an environment block that is there stays. ``chain`` as for systemd-boot.

    With ``esp``, GRUB itself goes there, and only a configuration that leads to ``boot``. Raise LandingError.
    """
    top = boot if esp is None else esp.directory
    packages = "grub-efi-amd64-signed and shim-signed"
    found = _programs(root, _GRUB, "GRUB for UEFI", packages)
    if chain:
        _check_chain(found, "GRUB for UEFI", packages)
    with boot_partition(top):
        own = top + grub_prefix(found.loader)
        folder = own if esp is None else os.path.join(boot, _GRUB_APART)
        files.remove_unfinished(own, folder)
        os.makedirs(folder, exist_ok=True)
        # That of another distribution, if that one's GRUB is there now.
        with suppress(LandingError, FileNotFoundError):
            environment = files.content(grub_environment(boot))
        path = os.path.join(folder, _ENVIRONMENT)
        files.replace_if_changed(path, environment, boot)
        files.replace_if_changed(os.path.join(folder, "grub.cfg"), configuration.encode(), boot)
        if esp is not None:
            lead = _LEAD.format(uuid=esp.boot_uuid, folder=_GRUB_APART)
            files.replace_if_changed(os.path.join(own, "grub.cfg"), lead.encode(), top)
        _install_removable(top, found)
        os.makedirs(os.path.join(boot, ENTRIES), exist_ok=True)


def grub_environment(boot: str) -> str:
    """Return the path of the environment block that the installed GRUB reads; raise LandingError without GRUB."""
    apart = os.path.join(boot, _GRUB_APART)
    if os.path.isdir(apart):
        return os.path.join(apart, _ENVIRONMENT)
    folder = os.path.join(boot, "EFI/BOOT")
    for machine in _MACHINES:
        for name in (f"grub{machine}.efi", f"BOOT{machine.upper()}.EFI"):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                return os.path.join(boot + grub_prefix(path), _ENVIRONMENT)
    raise LandingError(f"the boot partition {boot!r} has no GRUB", hint="install the boot loader first")


def grub_prefix(program: str) -> str:
    """Return the directory that a GRUB program reads its configuration from, such as ``/EFI/debian``.

    It is a record of the modules that are built into it. Raise LandingError if it has none.
    """
    data = files.content(program)
    at, size = pe.sections(lambda offset, length: data[offset : offset + length], len(data)).get("mods", (0, 0))
    modules = data[at : at + size]
    magic, offset, end = _MODULES.unpack_from(modules) if size > _MODULES.size else (0, 0, 0)
    end = min(end, size)
    while magic == _MAGIC and offset + _RECORD.size < end:
        kind, length = _RECORD.unpack_from(modules, offset)
        if kind == _PREFIX_RECORD:
            text = modules[offset + _RECORD.size : offset + length].rstrip(b"\0").decode(errors="replace")
            if re.fullmatch(r"(/[A-Za-z0-9][A-Za-z0-9._-]*)+", text):
                return text
        offset += max(length, _RECORD.size)
    raise LandingError(
        f"the GRUB program {program!r} does not say where its configuration is",
        hint="use the signed GRUB of a distribution, or another boot style",
    )


def _install_removable(boot: str, found: Programs) -> None:
    """Copy a boot loader to where firmware looks for it, behind shim if there is one."""
    folder = os.path.join(boot, "EFI/BOOT")
    files.remove_unfinished(folder)
    first = os.path.join(folder, f"BOOT{found.machine.upper()}.EFI")
    if found.shim is None:
        files.copy_if_changed(found.loader, first, boot)
        return
    # Shim starts what has this name in its own directory, whatever it is.
    files.copy_if_changed(found.loader, os.path.join(folder, f"grub{found.machine}.efi"), boot)
    if found.key_manager:
        files.copy_if_changed(found.key_manager, os.path.join(folder, f"mm{found.machine}.efi"), boot)
    files.copy_if_changed(found.shim, first, boot)


def _programs(root: str, places: Sequence[str], what: str, packages: str) -> Programs:
    for machine in _MACHINES:
        if loader := _find(root, places, machine):
            shim, key_manager = (_find(root, names, machine) for names in (_SHIM, _KEY_MANAGER))
            return Programs(machine, *loader, shim and shim[0], key_manager and key_manager[0])
    raise LandingError(
        f"the image has no {what}", hint=f"install {packages} in the image, or choose another boot style"
    )


def _check_chain(found: Programs, what: str, packages: str) -> None:
    if not found.signed or found.shim is None or not _is_signed(found.shim):
        raise LandingError(
            f"the image has no signed {what} with shim, which --secure-boot needs",
            hint=f"install {packages} (Fedora: shim and grub2-efi) in the image, or sign with own keys: "
            "--bootloader uki --sb-key FILE --sb-cert FILE",
        )


def _is_signed(path: str) -> bool:
    with open(path, "rb") as file:
        return pe.is_signed(lambda offset, length: os.pread(file.fileno(), length, offset))


def _find(root: str, places: Sequence[str], machine: str) -> tuple[str, bool] | None:
    """Return the path of a program, and whether it is signed; one whose name says so is preferred."""
    for place, ending in itertools.product(places, (_SIGNED, "")):
        for found in sorted(glob.glob(place.format(machine=machine) + ending, root_dir=root), reverse=True):
            path = resolve_below(root, found)
            if path is not None and os.path.isfile(path):
                return path, bool(ending) or _is_signed(path)
    return None


def _sign(program: str, directory: str, signing: Signing) -> str:
    sbsign = require_program("sbsign", "sign the boot loader", "sbsigntool (Fedora: sbsigntools)")
    output = os.path.join(directory, "signed.efi")
    run([sbsign, "--key", signing.key, "--cert", signing.certificate, "--output", output, program])
    return output
