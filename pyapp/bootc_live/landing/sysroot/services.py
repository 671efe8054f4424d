"""Check whether an image has services that fail without a disk."""

from __future__ import annotations

from bootc_live.config.cmdline.tokens import split_cmdline
from bootc_live.rootfs.disk_units import DirectoryTree, enabled_disk_units, mask_arguments, masked_by


def check_services(root: str, source_text: str, cmdline: str) -> str | None:
    """Return a warning if the tree ``root`` enables such services and the kernel command line does not mask them.

    ``source_text`` is the image as typed.
    """
    units = enabled_disk_units(DirectoryTree(root), masked_by(split_cmdline(cmdline)))
    if not units:
        return None
    names = ", ".join(unit.name for unit in units)
    return (
        f"{source_text!r} has services for a system on a disk, which fail here or fill memory: {names}; to disable "
        f"them, add {mask_arguments(units)} to the kernel arguments"
    )
