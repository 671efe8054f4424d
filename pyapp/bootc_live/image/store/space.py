"""What to say where the file system that the image goes into is full."""

from __future__ import annotations

import errno
import os

from bootc_live.base.errors import OutOfMemoryError
from bootc_live.base.units import mib


def no_space(error: OSError) -> bool:
    """Tell whether it says that a file system, or what one may use of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def full(fd: int, doing: str) -> OutOfMemoryError:
    """Make the error for a full file system, with how much it holds."""
    usage = os.fstatvfs(fd)
    return OutOfMemoryError(
        f"no space left for {doing}: the file system for it holds {mib(usage.f_blocks * usage.f_frsize)}, "
        f"{mib(usage.f_bavail * usage.f_frsize)} of them free",
        hint="give the machine more memory, or use a smaller image",
    )
