"""The part of RAM an image is built in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from bootc_live.base.errors import OutOfMemoryError
from bootc_live.base.units import mib
from bootc_live.config.model import Backing
from bootc_live.rootfs.ram import KEPT_FREE, RamFs, ram_filesystem
from bootc_live.system.cleanup.directories import make_in, private_directory
from bootc_live.system.cleanup.guard import owned
from bootc_live.system.memory import available_bytes

DEFAULT = "/run/bootc-live"
_PLAIN = Backing()


@contextmanager
def ram_workspace(backing: Backing = _PLAIN, base: str = DEFAULT) -> Iterator[str]:
    """Mount a RAM file system of our own below ``base``: /run is limited to a fifth of RAM, forbids suid and devices.

    Where no size is asked for, it may take all memory that is available now but 64 MiB. What is mounted from it lives
    on after the block. Raises OutOfMemoryError, RootfsError and RunError.
    """
    with owned(_make_work, _remove_work, base) as work, _in_ram(backing, work.result):
        yield work.result


def _make_work(base: str) -> str:
    # A name of its own, so that two runs do not mount over each other.
    return make_in(base, lambda: tempfile.mkdtemp(prefix="work.", dir=base))


def _remove_work(path: str) -> None:
    for empty in (path, os.path.dirname(path)):
        # Not empty where a receipt lies in it, or another run works there.
        with suppress(OSError):
            os.rmdir(empty)


@contextmanager
def directory_workspace(parent: str, backing: Backing = _PLAIN) -> Iterator[str]:
    """Use a private directory below an existing one, on whatever file system that is.

    Where anything special is asked of RAM, a file system in RAM is mounted there. Raises as ``ram_workspace``.
    """
    with (
        private_directory(parent, "bootc-live.", hint="choose another --workdir") as where,
        nullcontext() if backing == _PLAIN else _in_ram(backing, where),
    ):
        yield where


@contextmanager
def _in_ram(backing: Backing, where: str) -> Iterator[None]:
    size = available_bytes() - KEPT_FREE if backing.size is None else backing.size
    if size <= 0:
        raise OutOfMemoryError(
            f"only {mib(available_bytes())} of memory are available, {mib(KEPT_FREE)} must stay free",
            hint="give the machine more memory",
        )
    spec = RamFs(size, huge=backing.huge, mpol=backing.mpol, zram=backing.zram, mode=0o700)
    with ram_filesystem(spec, where), _limits_named(backing):
        yield


@contextmanager
def _limits_named(backing: Backing) -> Iterator[None]:
    """Make a full file system the fault of the argument that limits it."""
    try:
        yield
    except OutOfMemoryError as error:
        # Its own kinds know better what to do.
        if type(error) is not OutOfMemoryError:
            raise
        if backing.zram is not None:
            error.hint = f"give more than {mib(backing.zram.size)} with bootc.zram=, or use a smaller image"
        elif backing.size is not None:
            error.hint = f"give more than {mib(backing.size)} with bootc.live.size=, or leave it out"
        raise
