"""Land by a soft reboot of systemd: it stops all services, switches to the new root, and starts there as a new init.

The kernel stays, and with it addresses, routes and what is mounted below /run. See systemd-soft-reboot.service(8).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from bootc_live.base.errors import LandingError, RunError
from bootc_live.landing.pivot.root_landing import RootLanding
from bootc_live.landing.pivot.units import written_files
from bootc_live.receipt.file import written_receipt
from bootc_live.system.mounts import attach_tree, is_mount_point, unmount
from bootc_live.system.run import run

# Where systemd looks for the next root.
NEXT_ROOT = "/run/nextroot"


class SoftRebootLanding(RootLanding):
    """Lets systemd switch to a mounted root; a ``Landing``."""

    way = "soft-reboot"

    def check(self) -> None:
        """Raise LandingError if another root is already waiting."""
        if is_mount_point(NEXT_ROOT):
            raise LandingError(
                f"another root waits at {NEXT_ROOT}",
                hint=f"run 'systemctl soft-reboot' to switch to it, or 'umount -R {NEXT_ROOT}' to forget it",
            )

    def ready(self) -> str:
        """Return a text about what is ready."""
        return f"the root can be attached at {NEXT_ROOT}"

    def last_step(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Return the function that starts the soft reboot."""
        return switch, ()

    def commit(self) -> str:
        """Attach the root, and ask systemd to switch to it; raise LandingError if it refuses."""
        self.switch()
        return "systemd stops all services, and switches to the new root"


def switch(tree: int, receipt: dict[str, object], receipt_path: str, files: dict[str, str]) -> None:
    """Attach a tree of mounts where systemd looks for it, and start the soft reboot; undo that if it fails.

    ``files`` are written by ``written_files``.
    """
    os.makedirs(NEXT_ROOT, exist_ok=True)
    try:
        with written_files(files), written_receipt(receipt, receipt_path):
            attach_tree(tree, NEXT_ROOT)
            try:
                run(["systemctl", "soft-reboot"])
            except RunError as error:
                unmount(NEXT_ROOT)
                raise LandingError(
                    f"systemd refuses a soft reboot: {error.message}",
                    hint="look at 'systemctl list-jobs', and try again",
                ) from error
    except BaseException:
        with suppress(OSError):
            os.rmdir(NEXT_ROOT)
        raise
    finally:
        os.close(tree)
