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
from bootc_live.landing.pivot.firewall import check_flush
from bootc_live.landing.pivot.first.places import make_places
from bootc_live.landing.pivot.first.settings import INIT, FirstSettings, OnExit, check_on_exit
from bootc_live.landing.pivot.network import Interface, network_files, present_network
from bootc_live.landing.pivot.old_root import show_old_root
from bootc_live.landing.pivot.program import Program, ProgramWish, find_program, find_shell, make_directory
from bootc_live.landing.pivot.tailscale import tailscale_files
from bootc_live.landing.pivot.units import rollback_units
from bootc_live.landing.pivot.way_back import way_back
from bootc_live.landing.protocol import Receipt
from bootc_live.landing.sysroot.modules import check_modules
from bootc_live.landing.sysroot.relabel import relabel_files
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
    confirms. ``on_exit`` is for a program that is no init; None restarts the machine. ``flush_firewall`` removes the
    firewall's rules, which stay otherwise. With ``tailscale_key``, the new system joins that network. ``files`` are for
    ``written_files``.
    """

    way: ClassVar[str]
    wish: ProgramWish
    receipt_path: str
    keep_old_root: str | None = None
    needs_way_back: bool = False
    rollback_after: int | None = None
    on_exit: OnExit | None = None
    flush_firewall: bool = False
    tailscale_key: str | None = field(default=None, repr=False)
    carried: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    _program: Program | None = None
    _shell: Program | None = None
    _network: tuple[Interface, ...] = ()
    _switch: Callable[[], object] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def program(self) -> Program:
        """The init of the root."""
        assert self._program is not None, "examined"
        return self._program

    def check(self) -> None:
        """Raise LandingError if something that was asked for is not possible on this machine."""
        if self.flush_firewall:
            check_flush()

    @abstractmethod
    def ready(self) -> str:
        """Return a text about what is ready."""

    @abstractmethod
    def last_step(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Return a top-level function and its arguments between the tree, and receipt, path of that, and files."""

    @property
    def starts_systemd(self) -> bool:
        """Whether the init of the root is systemd, which needs nothing from this program but its root."""
        return self.program.init and self.program.systemd

    @abstractmethod
    def starts_itself(self) -> bool:
        """Return whether the way starts the program of the root itself; otherwise, a small root does it."""

    def examine(self, made: MountedRoot) -> list[str]:
        """Raise LandingError for a root that cannot follow; return warnings about what it lacks."""
        self._program = find_program(made.path, made.source_text, made.process, self.wish)
        self._check_program(made)
        try:
            make_places(made.path)
            self.carried = [each.name for each in carry_over(made.path)]
        except OSError as error:
            at = f"/{os.path.relpath(error.filename, made.path)}" if error.filename else "a file"
            raise LandingError(
                f"{made.source_text!r} cannot be given what it needs of this machine: {at}: {error.strerror}",
                hint="look at that file of the image",
            ) from error
        self._network = present_network()
        self.files = {PIVOTED: ""}
        if self.starts_systemd:
            # Units would only make the programs of another init believe that systemd runs.
            self.files |= network_files(made.path, self._network, name_servers())
            self.files |= relabel_files(made.unlabelled)
            if self.rollback_after is not None:
                self.files |= rollback_units(self.rollback_after)
        if self.tailscale_key is not None:
            self.files |= tailscale_files(made.path, made.source_text, self.tailscale_key, os.uname().nodename)
        lacking = check_modules(made.path, made.source_text, required=False)
        return [each for each in (lacking, self._check_way_back(made, self._network)) if each is not None]

    def _check_program(self, made: MountedRoot) -> None:
        """Raise LandingError if the options do not suit the kind of program."""
        check_on_exit(self.program, made.source_text, self.on_exit)
        make_directory(made.path, self.program, made.source_text)
        if self.program.init and not self.program.systemd and self.rollback_after is not None:
            raise LandingError(
                f"--rollback-after needs systemd, and {made.source_text!r} has another init",
                hint="leave --rollback-after out",
            )
        if self.tailscale_key is not None and not self.program.systemd:
            raise LandingError(
                f"--tailscale-authkey-file needs systemd, which {made.source_text!r} does not start",
                hint="leave it out, and start Tailscale by the image's own means",
            )
        if self.on_exit is OnExit.SHELL:
            self._shell = find_shell(made.path, made.source_text)

    def _check_way_back(self, made: MountedRoot, network: Sequence[Interface]) -> str | None:
        """Return a warning if nobody can reach the root; raise LandingError if that is needed."""
        found = way_back(made.path, network, self.program)
        if found.how or (self.tailscale_key is not None and network):
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
        tree = mount_tree(made.path if self.starts_itself() else self._in_small_root(made))
        self._stack.callback(os.close, tree)
        record = {**receipt, "landing": {"way": self.way, "carried": self.carried, "old": self.keep_old_root}}
        step, arguments = self.last_step()
        self._switch = partial(commit, step, *arguments, record, self.receipt_path, self.files, descriptors=[tree])
        return self.ready()

    def _in_small_root(self, made: MountedRoot) -> str:
        # A late import: most roots start by themselves.
        from bootc_live.landing.pivot.first.small_root import small_root

        on_exit = None if self.program.init else self.on_exit or OnExit.REBOOT
        settings = FirstSettings(
            self.program, on_exit, self._shell, self.rollback_after, self._network, self.keep_old_root, old_init()
        )
        return self._stack.enter_context(small_root(made.path, f"{made.path}.first", settings))

    def init(self) -> tuple[str, list[str]]:
        """Return path and arguments of what becomes the first process."""
        return (self.program.path, list(self.program.argv)) if self.starts_itself() else (INIT, [INIT])

    def switch(self) -> None:
        """Do the last step in the parent."""
        assert self._switch is not None, "prepared"
        self._switch()

    def undo(self) -> None:
        """Close the copy."""
        self._stack.close()


def old_init() -> str:
    """Return the path of the init that runs; /sbin/init if nobody may know."""
    try:
        return os.readlink("/proc/1/exe")
    except OSError:
        return "/sbin/init"
