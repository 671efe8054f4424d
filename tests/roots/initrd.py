"""Initrds that the roots' dracut builds, unpacked, and how a test runs something in one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.roots.root import HERE, Root

OURS = "bootc-live bootc-live-net bootc-live-registry bootc-live-zram"
HANDLERS = "url-lib nfs"
"""Packed by whoever wants archives from FTP, TFTP and NFS."""


@dataclass(frozen=True)
class Initrd:
    """An initrd and the directory it is unpacked to."""

    root: Root
    flavour: str
    path: Path
    tree: Path
    said: str

    def run(self, *argv: str, cmdline: str = "", ok: bool = True) -> str:
        """Runs a command inside; gives what it printed, on both outputs."""
        both = ("/bin/sh", "-c", 'exec "$@" 2>&1', "sh")
        return self.root.run(HERE / "enter-initrd", self.tree, cmdline, *both, *argv, ok=ok).stdout

    def has(self, name: str) -> bool:
        """Whether there is a file of this name, a path from the top of the initramfs."""
        return os.path.lexists(self.tree / name)


def build(root: Root, where: Path, flavour: str, modules: str) -> Initrd:
    """Builds and unpacks an initrd with the dracut modules of a list in one word."""
    release, kernel_modules = root.kernel()
    path, tree = where / f"{root.name}-{flavour}.img", where / f"{root.name}-{flavour}"
    command = (HERE / "build-initrd", path, tree, release, kernel_modules, flavour, modules)
    done = root.run(*command)
    return Initrd(root, flavour, path, tree, done.stdout + done.stderr)


@contextlib.contextmanager
def embedded(initrd: Initrd, image: Path) -> Iterator[str]:
    """The archive at a path of the initramfs."""
    place = initrd.tree / "root.oci"
    os.link(image, place)
    try:
        yield "/root.oci"
    finally:
        place.unlink()
