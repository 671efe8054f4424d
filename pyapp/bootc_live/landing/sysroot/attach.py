"""Attach a root at its place: what the parent executes, which loads only this for it."""

from __future__ import annotations

import os

from bootc_live.base.errors import LandingError
from bootc_live.landing.sysroot.relabel import relabelled
from bootc_live.receipt.file import written_receipt
from bootc_live.system.mounts import attach_tree, is_mount_point


def attach(
    descriptor: int, sysroot: str, receipt: dict[str, object], path: str, unlabelled: list[str], relabel_to: str
) -> None:
    """Attach a tree of mounts, and write the receipt and the request to systemd; a failure leaves nothing behind."""
    try:
        # Another boot may have used the place in the meantime.
        check_place(sysroot)
        with relabelled(unlabelled, relabel_to), written_receipt(receipt, path):
            attach_tree(descriptor, sysroot)
    finally:
        os.close(descriptor)


def check_place(sysroot: str) -> None:
    """Raise LandingError if no root can be mounted at ``sysroot``."""
    if not os.path.isdir(sysroot):
        raise LandingError(
            f"{sysroot!r} is not a directory to mount the root on", hint="create it, or correct --sysroot"
        )
    if is_mount_point(sysroot):
        raise LandingError(
            f"something is already mounted on {sysroot!r}",
            hint=f"if that root was made by hand, run 'umount -R {sysroot}' and try again; else correct --sysroot",
        )
