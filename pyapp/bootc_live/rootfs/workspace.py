"""Provide the directory in RAM that an image is built in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from bootc_live.base.errors import OutOfMemoryError
from bootc_live.base.units import mib
from bootc_live.config.model import Backing
from bootc_live.rootfs.ram import RamFs, ram_filesystem, size_limit
from bootc_live.system.cleanup.directories import directory_in_shared, private_directory

DEFAULT = "/run/bootc-live"
_PLAIN = Backing()


@contextmanager
def ram_workspace(backing: Backing = _PLAIN, base: str = DEFAULT) -> Iterator[str]:
    """Mount a file system in RAM below ``base``: /run is limited to a fifth of RAM, and forbids suid and devices.

    By default it may use available memory minus 64 MiB. What is mounted from it lives on after the block. Raise
    OutOfMemoryError, RootfsError and RunError.
    """
    with directory_in_shared(base, "work.") as where, _in_ram(backing, where):
        yield where


@contextmanager
def directory_workspace(parent: str, backing: Backing = _PLAIN) -> Iterator[str]:
    """Make a private directory below an existing one, on any file system.

    If a backing in RAM was chosen, mount it there. Raise as ``ram_workspace``.
    """
    with (
        private_directory(parent, "bootc-live.", hint="choose another --workdir") as where,
        nullcontext() if backing == _PLAIN else _in_ram(backing, where),
    ):
        yield where


@contextmanager
def _in_ram(backing: Backing, where: str) -> Iterator[None]:
    spec = RamFs(size_limit(backing.size), huge=backing.huge, mpol=backing.mpol, zram=backing.zram, mode=0o700)
    with ram_filesystem(spec, where), _limits_named(backing):
        yield


@contextmanager
def _limits_named(backing: Backing) -> Iterator[None]:
    """Name the argument that limits a file system in the error that it is full."""
    try:
        yield
    except OutOfMemoryError as error:
        # Subclasses have better hints.
        if type(error) is not OutOfMemoryError:
            raise
        if backing.zram is not None:
            error.hint = f"give more than {mib(backing.zram.size)} with bootc.zram=, or use a smaller image"
        elif backing.size is not None:
            error.hint = f"give more than {mib(backing.size)} with bootc.live.size=, or leave it out"
        raise
