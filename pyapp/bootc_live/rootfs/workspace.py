"""The part of RAM an image is built in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.errors import OutOfMemoryError, RootfsError
from bootc_live.base.memory import available_bytes
from bootc_live.base.mounts import mounted
from bootc_live.base.units import mib

DEFAULT = "/run/bootc-live"
# What must stay free for the kernel and programs while the root is made.
_RESERVE = 64 * 2**20


@contextmanager
def ram_workspace(base: str = DEFAULT) -> Iterator[str]:
    """Mount a tmpfs of our own below ``base``: /run is limited to a fifth of RAM and forbids suid and devices.

    It may take all memory that is available now but 64 MiB. The files in it
    live on after the block as long as a loop device holds them. Raises
    OutOfMemoryError and RunError.
    """
    room = available_bytes() - _RESERVE
    if room <= 0:
        raise OutOfMemoryError(
            f"only {mib(available_bytes())} of memory are available, {mib(_RESERVE)} must stay free",
            hint="give the machine more memory",
        )
    os.makedirs(base, exist_ok=True)
    # A name of its own, so that two runs do not mount over each other.
    try:
        with (
            tempfile.TemporaryDirectory(prefix="work.", dir=base) as where,
            mounted("tmpfs", "bootc-live", where, f"mode=0700,size={room}", hint="use a kernel with tmpfs"),
        ):
            yield where
    finally:
        # Not empty where a receipt lies in it.
        with suppress(OSError):
            os.rmdir(base)


@contextmanager
def directory_workspace(parent: str) -> Iterator[str]:
    """Use a private directory below an existing one, on whatever file system that is. Raises RootfsError."""
    try:
        made = tempfile.TemporaryDirectory(prefix="bootc-live.", dir=parent)
    except OSError as error:
        raise RootfsError(f"cannot work in {parent!r}: {error.strerror}", hint="choose another --workdir") from error
    with made as path:
        # Absolute, because mount(8) is run from elsewhere.
        yield os.path.abspath(path)
