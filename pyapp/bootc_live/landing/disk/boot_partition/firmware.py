"""The boot entry in a machine's firmware (UEFI specification, 3.1.3), by efibootmgr(8).

It is for the machine that this runs on. Firmware starts a disk without an entry, too, if nothing else comes before it:
the boot loader has the name that it looks for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

from bootc_live.base.errors import RunError
from bootc_live.formats.oci.platform import machine_platform
from bootc_live.source.device import find_device
from bootc_live.system.run import find_program, run

VARIABLES = "/sys/firmware/efi/efivars"
LABEL = "bootc-live"
# By GOARCH.
_LOADERS = {"amd64": r"\EFI\BOOT\BOOTX64.EFI", "arm64": r"\EFI\BOOT\BOOTAA64.EFI"}
_ENTRY = re.compile(
    rf"^Boot([0-9A-F]{{4}})[* ] {LABEL}\tHD\([0-9]+,GPT,([0-9a-f-]{{36}}),", re.MULTILINE | re.IGNORECASE
)


def add_firmware_entry(esp: str, variables: str = VARIABLES) -> str | None:
    """Let firmware start the EFI system partition ``esp``, a device, first; return why it could not, None if it does.

    Entries of earlier installations go, if their partition is gone or the same one.
    """
    loader = _LOADERS.get(machine_platform().architecture)
    if loader is None or not os.path.isdir(variables):
        return "this machine was not started by UEFI firmware"
    if os.statvfs(variables).f_flag & os.ST_RDONLY:
        return f"{variables} is read-only"
    program = find_program("efibootmgr")
    if program is None:
        return "the program 'efibootmgr' is missing"
    name = os.path.basename(os.path.realpath(esp))
    folder = os.path.realpath(f"/sys/class/block/{name}")
    try:
        with open(f"{folder}/partition", encoding="ascii") as file:
            number = file.read().strip()
        disk = f"/dev/{os.path.basename(os.path.dirname(folder))}"
        partuuid = run(["blkid", "-p", "-o", "value", "-s", "PART_ENTRY_UUID", esp]).strip()
        environment = {"EFIVARFS_PATH": f"{variables}/"}
        listed = run([program, "--verbose"], env=environment)
        for entry in stale_entries(listed, lambda found: found == partuuid or find_device(f"PARTUUID={found}") is None):
            run([program, "--quiet", "--bootnum", entry, "--delete-bootnum"], env=environment)
        told = ["--disk", disk, "--part", number, "--label", LABEL, "--loader", loader]
        run([program, "--quiet", "--create", *told], env=environment)
        # The new entry may have the number of one that was removed, which the order still has.
        run([program, "--quiet", "--remove-dups"], env=environment)
    except OSError:
        return f"{esp} is no partition of a disk"
    except RunError as error:
        return error.message
    return None


def stale_entries(listed: str, is_stale: Callable[[str], bool]) -> Iterator[str]:
    """Yield the numbers of our entries that efibootmgr lists, and whose partition, by its PARTUUID, is stale."""
    for number, partuuid in _ENTRY.findall(listed):
        if is_stale(partuuid.lower()):
            yield number
