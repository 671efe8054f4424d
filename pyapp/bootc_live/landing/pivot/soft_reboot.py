"""Land by a soft reboot of systemd: it stops all services, switches to the new root, and starts there as a new init.

The kernel stays, and with it addresses, routes and what is mounted below /run. See systemd-soft-reboot.service(8).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

from bootc_live.base.errors import LandingError, RunError
from bootc_live.landing.pivot.carry import carry_over, name_servers
from bootc_live.landing.pivot.network import Interface, network_files, present_network
from bootc_live.landing.pivot.old_root import show_old_root
from bootc_live.landing.pivot.program import ProgramWish, find_program
from bootc_live.landing.pivot.units import rollback_units, written_files
from bootc_live.landing.pivot.way_back import way_back
from bootc_live.landing.protocol import Receipt
from bootc_live.landing.sysroot.modules import check_modules
from bootc_live.receipt.file import written_receipt
from bootc_live.rootfs.writable.live_root import MountedRoot
from bootc_live.system.cleanup.guard import commit
from bootc_live.system.mounts import attach_tree, is_mount_point, mount_tree, unmount
from bootc_live.system.run import run

# Where systemd looks for the next root.
NEXT_ROOT = "/run/nextroot"
# Tells a unit of the new system that it is one.
PIVOTED = "/run/bootc-live/pivoted"


@dataclass
class SoftRebootLanding:
    """Lets systemd switch to a mounted root; a ``Landing``.

    ``keep_old_root`` is the directory in the new root that shows the old one; None lets it go. ``needs_way_back``
    refuses a root that nobody can reach by ssh. Seconds after ``rollback_after``, the machine reboots unless somebody
    confirms.
    """

    wish: ProgramWish
    receipt_path: str
    keep_old_root: str | None = None
    needs_way_back: bool = False
    rollback_after: int | None = None
    carried: list[str] = field(default_factory=list)
    _files: dict[str, str] = field(default_factory=dict)
    _switch: Callable[[], None] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def check(self) -> None:
        """Raise LandingError if another root is already waiting."""
        if is_mount_point(NEXT_ROOT):
            raise LandingError(
                f"another root waits at {NEXT_ROOT}",
                hint=f"run 'systemctl soft-reboot' to switch to it, or 'umount -R {NEXT_ROOT}' to forget it",
            )

    def examine(self, made: MountedRoot) -> list[str]:
        """Raise LandingError for a root without an init; return a warning if it has no modules and gets none."""
        program = find_program(made.path, made.source_text, made.process, self.wish)
        if not program.init:
            raise LandingError(
                f"{made.source_text!r} runs {program.argv[0]!r}, which is no init: systemd can only be followed by one",
                hint="use an image with an init, or rehearse it with --contain",
            )
        try:
            self.carried = [each.name for each in carry_over(made.path)]
        except OSError as error:
            at = f"/{os.path.relpath(error.filename, made.path)}" if error.filename else "a file"
            raise LandingError(
                f"{made.source_text!r} cannot be given what it needs of this machine: {at}: {error.strerror}",
                hint="look at that file of the image",
            ) from error
        network = present_network()
        self._files = network_files(made.path, network, name_servers())
        self._files[PIVOTED] = ""
        if self.rollback_after is not None:
            self._files |= rollback_units(self.rollback_after)
        lacking = check_modules(made.path, made.source_text, required=False)
        return [each for each in (lacking, self._check_way_back(made, network)) if each is not None]

    def _check_way_back(self, made: MountedRoot, network: Sequence[Interface]) -> str | None:
        """Return a warning if nobody can reach the root; raise LandingError if that is needed."""
        found = way_back(made.path, network)
        if found.how:
            return None
        message = f"nobody could reach {made.source_text!r} without a console: {'; '.join(found.lacks)}"
        if self.needs_way_back:
            raise LandingError(
                message, hint="add what is missing, as a source on top, or use --yes-i-have-a-console if you have one"
            )
        return message

    def prepare(self, made: MountedRoot, receipt: Receipt) -> str:
        """Make a detached copy of the root's mounts; raise OSError."""
        if self.keep_old_root is not None:
            self._stack.enter_context(show_old_root(made.path, self.keep_old_root))
        tree = mount_tree(made.path)
        self._stack.callback(os.close, tree)
        record = {**receipt, "landing": {"way": "soft-reboot", "carried": self.carried, "old": self.keep_old_root}}
        self._switch = partial(commit, switch, record, self.receipt_path, self._files, descriptors=[tree])
        return f"the root can be attached at {NEXT_ROOT}"

    def commit(self) -> str:
        """Attach the root, and ask systemd to switch to it; raise LandingError if it refuses."""
        assert self._switch is not None, "prepared"
        self._switch()
        return "systemd stops all services, and switches to the new root"

    def undo(self) -> None:
        """Close the copy."""
        self._stack.close()


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
