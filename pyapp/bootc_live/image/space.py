"""What to say where the file system that the image goes into is full."""

from __future__ import annotations

import os

from bootc_live.base.errors import OutOfMemoryError
from bootc_live.base.units import mib


def full(fd: int, doing: str) -> OutOfMemoryError:
    """Make the error for a full file system, with how much it holds."""
    usage = os.fstatvfs(fd)
    return OutOfMemoryError(
        f"no space left for {doing}: the file system for it holds {mib(usage.f_blocks * usage.f_frsize)}, "
        f"{mib(usage.f_bavail * usage.f_frsize)} of them free",
        hint="give the machine more memory, or use a smaller image",
    )
