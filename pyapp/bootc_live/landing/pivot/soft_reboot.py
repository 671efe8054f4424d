"""Land by a soft reboot of systemd: it stops all services, switches to the new root, and starts there as a new init.

The kernel stays, and with it addresses, routes and what is mounted below /run. See systemd-soft-reboot.service(8).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext, suppress

from bootc_live.base.errors import LandingError, RunError
from bootc_live.base.paths import directory_below, resolve_below
from bootc_live.landing.pivot.firewall import flush_firewall, kept_rules
from bootc_live.landing.pivot.machine import NEXT_ROOT
from bootc_live.landing.pivot.root_landing import RootLanding
from bootc_live.landing.pivot.units import written_files
from bootc_live.receipt.file import written_receipt
from bootc_live.rootfs.writable.live_root import MountedRoot
from bootc_live.system.mounts import attach_tree, is_mount_point, unmount
from bootc_live.system.run import run

# One of these shows that it is the root of a system.
_RELEASES = ("etc/os-release", "usr/lib/os-release")


class SoftRebootLanding(RootLanding):
    """Lets systemd switch to a mounted root; a ``Landing``."""

    way = "soft-reboot"

    def check(self) -> None:
        """Raise LandingError if another root is already waiting, or an option is not possible."""
        super().check()
        if is_mount_point(NEXT_ROOT):
            raise LandingError(
                f"another root waits at {NEXT_ROOT}",
                hint=f"run 'systemctl soft-reboot' to switch to it, or 'umount -R {NEXT_ROOT}' to forget it",
            )

    def examine(self, made: MountedRoot) -> list[str]:
        """Raise LandingError for a root that cannot follow; return warnings about what it lacks."""
        warnings = super().examine(made)
        if not any(resolve_below(made.path, name) for name in _RELEASES):
            # systemd would go on in the old root.
            path = os.path.join(directory_below(made.path, "etc"), "os-release")
            with open(path, "x", encoding="utf-8") as file:
                file.write("ID=linux\n")
        return warnings

    def starts_itself(self) -> bool:
        """Return whether systemd starts the program of the root: it starts systemd, if there is one."""
        return self.starts_systemd

    def ready(self) -> str:
        """Return a text about what is ready."""
        return f"the root can be attached at {NEXT_ROOT}"

    def last_step(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Return the function that starts the soft reboot."""
        return switch, (self.flush_firewall,)

    def commit(self) -> str:
        """Attach the root, and ask systemd to switch to it; raise LandingError if it refuses."""
        self.switch()
        return "systemd stops all services, and switches to the new root"


def switch(tree: int, flush: bool, receipt: dict[str, object], receipt_path: str, files: dict[str, str]) -> None:
    """Attach a tree of mounts where systemd looks for it, and start the soft reboot; undo that if it fails.

    ``files`` are written by ``written_files``. Rules of the firewall stay, or ``flush`` removes them.
    """
    os.makedirs(NEXT_ROOT, exist_ok=True)
    try:
        with written_files(files), written_receipt(receipt, receipt_path):
            attach_tree(tree, NEXT_ROOT)
            try:
                with nullcontext() if flush else kept_rules():
                    run(["systemctl", "soft-reboot"])
            except RunError as error:
                unmount(NEXT_ROOT)
                raise LandingError(
                    f"systemd refuses a soft reboot: {error.message}",
                    hint="look at 'systemctl list-jobs', and try again",
                ) from error
            if flush:
                # Not before systemd has agreed. Nobody is left to whom a failure could be told.
                with suppress(OSError, RunError):
                    flush_firewall()
    except BaseException:
        with suppress(OSError):
            os.rmdir(NEXT_ROOT)
        raise
    finally:
        os.close(tree)
