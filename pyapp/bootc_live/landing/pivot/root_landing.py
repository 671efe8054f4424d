"""What landings have in common that replace the root of a running machine and keep its kernel."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from bootc_live.base.errors import LandingError
from bootc_live.landing.pivot.carry import carry_over, name_servers
from bootc_live.landing.pivot.network import Interface, network_files, present_network
from bootc_live.landing.pivot.old_root import show_old_root
from bootc_live.landing.pivot.program import Program, ProgramWish, find_program
from bootc_live.landing.pivot.units import rollback_units
from bootc_live.landing.pivot.way_back import way_back
from bootc_live.landing.protocol import Receipt
from bootc_live.landing.sysroot.modules import check_modules
from bootc_live.rootfs.writable.live_root import MountedRoot
from bootc_live.system.cleanup.guard import commit
from bootc_live.system.mounts import mount_tree

# Tells a unit of the new system that it is one.
PIVOTED = "/run/bootc-live/pivoted"


@dataclass
class RootLanding(ABC):
    """Prepares a mounted root for this machine; the base of landings, which have a last step.

    ``keep_old_root`` is the directory in the new root that shows the old one; None lets it go. ``needs_way_back``
    refuses a root that nobody can reach by ssh. Seconds after ``rollback_after``, the machine reboots unless somebody
    confirms. ``files`` are for ``written_files``.
    """

    way: ClassVar[str]
    wish: ProgramWish
    receipt_path: str
    keep_old_root: str | None = None
    needs_way_back: bool = False
    rollback_after: int | None = None
    carried: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    _program: Program | None = None
    _switch: Callable[[], object] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def program(self) -> Program:
        """The init of the root."""
        assert self._program is not None, "examined"
        return self._program

    @abstractmethod
    def ready(self) -> str:
        """Return a text about what is ready."""

    @abstractmethod
    def last_step(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Return a top-level function and its arguments between the tree, and receipt, path of that, and files."""

    def examine(self, made: MountedRoot) -> list[str]:
        """Raise LandingError for a root without an init; return a warning if it has no modules and gets none."""
        self._program = program = find_program(made.path, made.source_text, made.process, self.wish)
        if not program.init:
            raise LandingError(
                f"{made.source_text!r} runs {program.argv[0]!r}, which is no init: only an init can follow an init",
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
        self.files = {**network_files(made.path, network, name_servers()), PIVOTED: ""}
        if self.rollback_after is not None:
            self.files |= rollback_units(self.rollback_after)
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
        record = {**receipt, "landing": {"way": self.way, "carried": self.carried, "old": self.keep_old_root}}
        step, arguments = self.last_step()
        self._switch = partial(commit, step, *arguments, record, self.receipt_path, self.files, descriptors=[tree])
        return self.ready()

    def switch(self) -> None:
        """Do the last step in the parent."""
        assert self._switch is not None, "prepared"
        self._switch()

    def undo(self) -> None:
        """Close the copy."""
        self._stack.close()
