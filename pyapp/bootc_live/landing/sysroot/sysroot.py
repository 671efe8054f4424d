"""Land on the sysroot of an initramfs, where switch-root continues."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from bootc_live.base.errors import LandingError
from bootc_live.base.paths import resolve_below
from bootc_live.landing.protocol import Receipt
from bootc_live.landing.sysroot.attach import attach, check_place
from bootc_live.landing.sysroot.modules import check_modules
from bootc_live.landing.sysroot.services import check_services
from bootc_live.rootfs.writable.live_root import MountedRoot
from bootc_live.system.cleanup.guard import commit
from bootc_live.system.mounts import mount_tree

# The programs that dracut and systemd start by default.
_INITS = ("usr/lib/systemd/systemd", "sbin/init", "etc/init", "bin/init")


@dataclass
class SysrootLanding:
    """Attaches a mounted root at ``sysroot``, and writes its receipt; a ``Landing``.

    ``cmdline`` is the kernel command line, which may mask services. ``modules_required`` refuses an image without
    modules for the running kernel. ``relabel_to`` is the directory where systemd looks for files to label.
    """

    sysroot: str
    receipt_path: str
    relabel_to: str
    cmdline: str = ""
    modules_required: bool = False
    _attach: Callable[[], None] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def check(self) -> None:
        """Raise LandingError if no root can be mounted at ``sysroot``."""
        check_place(self.sysroot)

    def examine(self, made: MountedRoot) -> list[str]:
        """Raise LandingError for a root without an init program, or without modules if they are required.

        Return warnings about modules and services.
        """
        if not any(_is_program_below(made.path, name) for name in _INITS):
            raise LandingError(
                f"{made.source_text!r} has no init program (/sbin/init): it is not a bootable image",
                hint="use a bootc image, which contains systemd and a kernel",
            )
        lacking = check_modules(made.path, made.source_text, required=self.modules_required)
        services = check_services(made.path, made.source_text, self.cmdline)
        return [warning for warning in (lacking, services) if warning is not None]

    def prepare(self, made: MountedRoot, receipt: Receipt) -> str:
        """Make a detached copy of the root's mounts; raise OSError."""
        tree = mount_tree(made.path)
        self._stack.callback(os.close, tree)
        arguments = self.sysroot, receipt, self.receipt_path, made.unlabelled, self.relabel_to
        self._attach = partial(commit, attach, *arguments, descriptors=[tree])
        return f"the root can be attached at {self.sysroot}"

    def commit(self) -> str:
        """Attach the root and write the receipt; only switch-root follows. Raise LandingError."""
        assert self._attach is not None, "prepared"
        self._attach()
        return f"the root is at {self.sysroot}"

    def undo(self) -> None:
        """Close the copy."""
        self._stack.close()


def _is_program_below(root: str, name: str) -> bool:
    path = resolve_below(root, name)
    if path is None:
        return False
    mode = os.lstat(path).st_mode
    return stat.S_ISREG(mode) and bool(mode & 0o111)
