"""Rehearse a root in namespaces: nothing of the machine is touched, and nothing remains afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NoReturn

from bootc_live.base.errors import LandingError
from bootc_live.landing.pivot.places import make_places
from bootc_live.landing.pivot.program import Program, Wanted, find_program
from bootc_live.landing.pivot.supervisor import supervise
from bootc_live.landing.protocol import Receipt
from bootc_live.rootfs.writable.live_root import MountedRoot
from bootc_live.system import namespaces
from bootc_live.system.cleanup.directories import private_directory
from bootc_live.system.cleanup.guard import commit
from bootc_live.system.mounts import attach_tree, mount_tree

_NAMESPACES = namespaces.NEWNS | namespaces.NEWUTS | namespaces.NEWIPC | namespaces.NEWPID | namespaces.NEWCGROUP
# As shells say it.
_NOT_STARTED = 126
_LONGEST_MESSAGE = 4096
_HINT = "try another image, or another program with --entrypoint"


@dataclass
class ContainedLanding:
    """Runs a root's program in namespaces of its own, and waits for it; a ``Landing``.

    ``network`` shares that of the machine; otherwise there is none but the loopback interface. ``status`` is the
    program's, as a shell gives it.
    """

    wanted: Wanted
    network: bool = False
    status: int = 0
    _program: Program | None = None
    _run: Callable[[], int] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def check(self) -> None:
        """Do nothing: whether there are namespaces is seen when they are made."""

    def examine(self, made: MountedRoot) -> list[str]:
        """Raise LandingError for a root whose program cannot be started; return no warnings."""
        self._program = find_program(made.path, made.source_text, made.process, self.wanted)
        return []

    def prepare(self, made: MountedRoot, receipt: Receipt) -> str:  # noqa: ARG002
        """Make a detached copy of the root's mounts; raise OSError."""
        assert self._program is not None, "examined"
        tree = mount_tree(made.path)
        self._stack.callback(os.close, tree)
        self._run = partial(commit, run_contained, asdict(self._program), self.network, descriptors=[tree])
        return f"{self._program.argv[0]} can be started"

    def commit(self) -> str:
        """Run the program to its end; raise LandingError if it cannot be started."""
        assert self._run is not None, "prepared"
        self.status = self._run()
        return f"the program has ended, with {self.status}"

    def undo(self) -> None:
        """Close the copy."""
        self._stack.close()


def run_contained(tree: int, program: dict[str, Any], network: bool) -> int:
    """Run a program in a tree of mounts and return its status; raise LandingError if it cannot be started."""
    given = Program(**program)
    reading, told = os.pipe()
    try:
        with private_directory("/run", "bootc-live.contained.") as place:
            outer = os.fork()
            if outer == 0:
                os.close(reading)
                _become(tree, place, given, told, network=network)
            os.close(told)
            status = os.waitstatus_to_exitcode(os.waitpid(outer, 0)[1])
            problem = os.read(reading, _LONGEST_MESSAGE).decode(errors="replace")
    finally:
        os.close(reading)
        os.close(tree)
    if problem:
        raise LandingError(f"{given.argv[0]!r} cannot be started: {problem}", hint=_HINT)
    return status


def _become(tree: int, place: str, program: Program, told: int, *, network: bool) -> NoReturn:
    code = _NOT_STARTED
    try:
        namespaces.unshare(_NAMESPACES | (0 if network else namespaces.NEWNET))
        first = os.fork()
        if first == 0:
            _first_process(tree, place, program, told, network=network)
        os.close(told)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda received, _: os.kill(first, received))
        code = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
        code = 128 - code if code < 0 else code
    except OSError as error:
        os.write(told, f"there are no namespaces for it: {error.strerror}".encode())
    finally:
        os._exit(code)


def _first_process(tree: int, place: str, program: Program, told: int, *, network: bool) -> NoReturn:
    code = _NOT_STARTED
    try:
        namespaces.make_private("/")
        attach_tree(tree, place)
        make_places(place, network=not network)
        namespaces.pivot_into(place)
        code = enter(program) if program.init else supervise(partial(enter, program, told))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        os.write(told, f"{where}{error.strerror}".encode())
    finally:
        os._exit(code)


def enter(program: Program, told: int | None = None) -> NoReturn:
    """Become the program, in its directory and as its user; tell why not, or raise OSError."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.chdir(program.directory)
        if program.uid or program.gid or program.groups:
            os.setgroups(program.groups)
            os.setresgid(program.gid, program.gid, program.gid)
            os.setresuid(program.uid, program.uid, program.uid)
        os.execve(program.path, program.argv, program.environment)  # noqa: S606
    except OSError as error:
        if told is None:
            raise
        os.write(told, (error.strerror or "unknown").encode())
        os._exit(_NOT_STARTED)
