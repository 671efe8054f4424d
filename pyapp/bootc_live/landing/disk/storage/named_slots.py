"""Slots in partitions that somebody has made, and names: whether they may be overwritten."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from bootc_live.base.errors import ConfigError, RunError
from bootc_live.landing.disk.partitions.disks import disk_at
from bootc_live.landing.disk.partitions.model import ESP_TYPE, SLOT_TYPE, XBOOTLDR_TYPE
from bootc_live.system.devices.exclusive import is_claimed
from bootc_live.system.run import require_program, run

_MAKE = (
    "make two partitions without file systems, each larger than any image to come, of the type of Linux data "
    f"({SLOT_TYPE}), and name them: --slot /dev/sda3 --slot /dev/sda4"
)


def named_slots(paths: Sequence[str], *, wipe: bool) -> dict[str, str]:
    """Return the devices of two partitions by their PARTUUIDs; nothing is changed.

    ``wipe`` accepts partitions with something on them. Raise ConfigError and RunError.
    """
    if len(paths) != 2:
        raise ConfigError(
            f"--storage slots needs two partitions for roots, and --slot names {len(paths) or 'none'}", hint=_MAKE
        )
    found = [_partition(path, wipe=wipe) for path in paths]
    if len(dict(found)) != len(found):
        raise ConfigError(f"both --slot {paths[0]!r} and --slot {paths[1]!r} are the same partition", hint=_MAKE)
    return dict(found)


def _partition(path: str, *, wipe: bool) -> tuple[str, str]:
    """Return the PARTUUID of a partition, and its device."""
    what = f"--slot {path!r}"
    try:
        is_device = stat.S_ISBLK(os.stat(path).st_mode)
    except OSError as error:
        raise ConfigError(f"{what} cannot be used: {error.strerror}", hint=_MAKE) from error
    if not is_device:
        raise ConfigError(f"{what} is no block device", hint=_MAKE)
    device = os.path.realpath(path)
    blkid = require_program("blkid", "look at a partition", "util-linux")
    text = ""
    # It fails for what it has nothing to tell of, such as an empty disk.
    with suppress(RunError):
        text = run([blkid, "-p", "-o", "export", device])
    said = dict(line.split("=", 1) for line in text.splitlines())
    partuuid = said.get("PART_ENTRY_UUID")
    if partuuid is None:
        raise ConfigError(f"{what} is no partition", hint=_MAKE)
    if said.get("PART_ENTRY_TYPE") in (ESP_TYPE, XBOOTLDR_TYPE):
        raise ConfigError(f"{what} is a partition for boot loaders", hint=_MAKE)
    uses = disk_at(device).uses
    if uses or is_claimed(device):
        raise ConfigError(
            f"{what} is in use: {'; '.join(uses) or 'by another program'}", hint="unmount or stop that, or name another"
        )
    if "TYPE" in said and not wipe:
        raise ConfigError(
            f"{what} is not empty; it has: {said['TYPE']}",
            hint="destroy what is there with --wipe, or name another one",
        )
    return partuuid, device
