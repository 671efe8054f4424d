"""Landing on the sysroot of an initramfs: what switch-root continues in."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from bootc_live.base.errors import LandingError
from bootc_live.base.paths import resolve_below
from bootc_live.landing.sysroot.relabel import relabelled
from bootc_live.receipt.receipt import written_receipt
from bootc_live.rootfs.writable.live_root import MountedRoot
from bootc_live.system.cleanup.guard import commit
from bootc_live.system.mounts import attach_tree, is_mount_point, mount_tree

# What dracut and systemd switch to, unless told otherwise.
_INITS = ("usr/lib/systemd/systemd", "sbin/init", "etc/init", "bin/init")


def check_sysroot(sysroot: str) -> None:
    """Raise LandingError for a place that no root can be mounted on; worth knowing before anything is fetched."""
    if not os.path.isdir(sysroot):
        raise LandingError(
            f"{sysroot!r} is not a directory to mount the root on", hint="create it, or correct --sysroot"
        )
    if is_mount_point(sysroot):
        raise LandingError(f"something is mounted on {sysroot!r} already", hint="unmount it, or correct --sysroot")


@dataclass(frozen=True)
class SysrootLanding:
    """Hand a mounted root over at ``sysroot``. ``prepare`` has no side effects, ``commit`` is the hand-over.

    ``typed`` is the image as the user wrote it, for messages.
    """

    root: MountedRoot
    sysroot: str
    typed: str

    def prepare(self) -> None:
        """Check all that can be checked before; raises LandingError."""
        check_sysroot(self.sysroot)
        if not any(_is_program_below(self.root.path, name) for name in _INITS):
            raise LandingError(
                f"{self.typed!r} has no init program (/sbin/init): it is a container image, not a bootable one",
                hint="use a bootc image, one with systemd and a kernel inside",
            )

    def commit(self, receipt: dict[str, object], path: str, relabel_to: str) -> None:
        """Attach the root with all its parts, and leave the receipt at ``path``; from here on only switch-root follows.

        Raises LandingError and OSError.
        """
        descriptor = mount_tree(self.root.path)
        try:
            commit(attach, self.sysroot, receipt, path, self.root.unlabelled, relabel_to, descriptors=[descriptor])
        finally:
            os.close(descriptor)


def attach(
    descriptor: int, sysroot: str, receipt: dict[str, object], path: str, unlabelled: list[str], relabel_to: str
) -> None:
    """Attach a tree of mounts, with its receipt and what systemd is to label, or leave nothing of it behind."""
    try:
        # Another boot may have been faster.
        check_sysroot(sysroot)
        with relabelled(unlabelled, relabel_to), written_receipt(receipt, path):
            attach_tree(descriptor, sysroot)
    finally:
        os.close(descriptor)


def _is_program_below(root: str, name: str) -> bool:
    path = resolve_below(root, name)
    if path is None:
        return False
    mode = os.lstat(path).st_mode
    return stat.S_ISREG(mode) and bool(mode & 0o111)
