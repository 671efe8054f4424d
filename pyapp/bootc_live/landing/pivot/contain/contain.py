"""Rehearse a root in namespaces, beside everything that runs: nothing of it remains afterwards.

It shows how a root behaves. It is no prison: the image's root user is that of the machine.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NoReturn

from bootc_live.base.errors import LandingError
from bootc_live.landing.pivot.carry import carry_resolver
from bootc_live.landing.pivot.contain.places import make_places
from bootc_live.landing.pivot.contain.terminal import enter_terminal, own_terminal, relay
from bootc_live.landing.pivot.first.settings import OnExit, check_on_exit
from bootc_live.landing.pivot.first.start import NOT_STARTED, start
from bootc_live.landing.pivot.first.supervisor import supervise
from bootc_live.landing.pivot.program import Program, ProgramWish, find_program, find_shell, make_directory
from bootc_live.landing.protocol import Receipt
from bootc_live.rootfs.writable.live_root import MountedRoot
from bootc_live.system import namespaces
from bootc_live.system.cleanup.guard import ENDING_SIGNALS, commit
from bootc_live.system.mounts import attach_tree, mount_tree
from bootc_live.system.system_call import libc_call

_NAMESPACES = namespaces.NEWNS | namespaces.NEWUTS | namespaces.NEWIPC | namespaces.NEWPID | namespaces.NEWCGROUP
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24
# What changes the machine and not a namespace (capabilities(7)): modules, raw I/O, time, devices, the kernel log.
_DROPPED = (16, 17, 25, 27, 33, 34, 35, 36)
# How the first process of a namespace seems to end when it powers off or restarts (reboot(2)).
_HALTED = (signal.SIGINT, signal.SIGHUP)
# A directory that every system has; only the namespace sees what is mounted there.
_PLACE = "/run"
_LONGEST_MESSAGE = 4096
_CGROUPS = "/sys/fs/cgroup"
# What runs, and the shell that may follow it.
_Programs = tuple[Program, Program | None]
_HINT = "try another image, or another program with --entrypoint"


@dataclass
class ContainedLanding:
    """Runs a root's program in namespaces of its own, and waits for it; a ``Landing``.

    ``host_network`` shares the network of the machine; otherwise there is only a loopback interface. ``status`` is the
    program's, as a shell gives it. ``on_exit`` may start a shell then; all else ends the rehearsal.
    """

    wish: ProgramWish
    host_network: bool = False
    on_exit: OnExit | None = None
    status: int = 0
    _program: Program | None = None
    _shell: Program | None = None
    _run: Callable[[], int] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def check(self) -> None:
        """Do nothing: whether there are namespaces is seen when they are made."""

    def examine(self, made: MountedRoot) -> list[str]:
        """Raise LandingError for a root whose program cannot be started; return no warnings."""
        self._program = find_program(made.path, made.source_text, made.process, self.wish)
        check_on_exit(self._program, made.source_text, self.on_exit)
        if self.on_exit is OnExit.SHELL:
            self._shell = find_shell(made.path, made.source_text)
        make_directory(made.path, self._program, made.source_text)
        if self.host_network:
            carry_resolver(made.path)
        return []

    def prepare(self, made: MountedRoot, receipt: Receipt) -> str:  # noqa: ARG002
        """Make a detached copy of the root's mounts; raise OSError."""
        assert self._program is not None, "examined"
        tree = mount_tree(made.path)
        self._stack.callback(os.close, tree)
        programs = asdict(self._program), self._shell and asdict(self._shell)
        self._run = partial(commit, run_contained, *programs, self.host_network, descriptors=[tree])
        return f"{self._program.argv[0]} can be started"

    def commit(self) -> str:
        """Run the program to its end; raise LandingError if it cannot be started."""
        assert self._run is not None, "prepared"
        self.status = self._run()
        return f"the program has ended, with {self.status}"

    def undo(self) -> None:
        """Close the copy."""
        self._stack.close()


def run_contained(tree: int, program: dict[str, Any], shell: dict[str, Any] | None, host_network: bool) -> int:
    """Run a program in a tree of mounts, and then a shell, if there is one; return the program's status.

    Raise LandingError if it cannot be started.
    """
    # By the first, systemd knows that it is not alone with its kernel.
    surroundings = {"container": "bootc-live", **({"TERM": os.environ.get("TERM", "vt220")} if os.isatty(0) else {})}
    given = _surrounded(program, surroundings)
    after = _surrounded(shell, surroundings) if shell else None
    reading, told = os.pipe()
    try:
        with _cgroup() as cgroup, own_terminal() as terminal, _held_back():
            keeper = os.fork()
            if keeper == 0:
                os.close(reading)
                _keep(tree, (given, after), told, cgroup, terminal and terminal[1], host_network=host_network)
            os.close(told)
            if terminal is not None:
                os.close(terminal[1])
            with _forwarded(keeper, ENDING_SIGNALS, lambda number: number):
                status = _wait(keeper, terminal and terminal[0])
            problem = os.read(reading, _LONGEST_MESSAGE).decode(errors="replace")
    finally:
        os.close(reading)
        os.close(tree)
    if problem:
        raise LandingError(f"{given.argv[0]!r} cannot be started: {problem}", hint=_HINT)
    return status


def _surrounded(program: dict[str, Any], surroundings: dict[str, str]) -> Program:
    return Program(**{**program, "environment": {**surroundings, **program["environment"]}})


def _wait(child: int, terminal: int | None) -> int:
    if terminal is not None:
        handle = os.pidfd_open(child)
        try:
            relay(terminal, handle)
        finally:
            os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _keep(
    tree: int, programs: _Programs, told: int, cgroup: str, terminal: int | None, *, host_network: bool
) -> NoReturn:
    """Start the first process of the namespaces, and wait for it: only a parent sees how it ends."""
    code, program = NOT_STARTED, programs[0]
    try:
        _end_with_parent()
        enter_terminal(terminal)
        if cgroup:
            with open(os.path.join(cgroup, "cgroup.procs"), "w", encoding="ascii") as file:
                file.write("0")
        namespaces.unshare(_NAMESPACES | (0 if host_network else namespaces.NEWNET))
        first = os.fork()
        if first == 0:
            _first_process(tree, programs, told, host_network=host_network)
        os.close(told)
        # An init is asked to end in its own way.
        asked = (lambda _number: program.stop_signal) if program.stop_signal else (lambda number: number)
        with _forwarded(first, ENDING_SIGNALS, asked):
            code = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
        if program.init and -code in _HALTED:
            code = 0
        code = 128 - code if code < 0 else code
    except OSError as error:
        os.write(told, f"there are no namespaces for it: {error.strerror}".encode())
    finally:
        os._exit(code)


def _first_process(tree: int, programs: _Programs, told: int, *, host_network: bool) -> NoReturn:
    code, (program, shell) = NOT_STARTED, programs
    try:
        _end_with_parent()
        namespaces.make_private("/")
        attach_tree(tree, _PLACE)
        make_places(_PLACE, host_network=host_network)
        if not host_network:
            namespaces.raise_loopback()
        namespaces.pivot_into(_PLACE)
        for capability in _DROPPED:
            libc_call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
        code = start(program) if program.init else supervise(partial(start, program, told))
        if shell is not None:
            os.write(2, f"bootc-live: {program.argv[0]!r} has ended with {code}\n".encode())
            supervise(partial(start, shell))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        os.write(told, f"{where}{error.strerror}".encode())
    finally:
        os._exit(code)


@contextmanager
def _cgroup() -> Iterator[str]:
    """Make a control group, which is gone with its groups after the block; yield its path, or nothing."""
    path = os.path.join(_CGROUPS, f"bootc-live.contained.{os.getpid()}")
    try:
        # Only the second version has this file.
        os.stat(os.path.join(_CGROUPS, "cgroup.controllers"))
        os.mkdir(path)
    except OSError:
        # It is read-only in containers.
        yield ""
        return
    try:
        yield path
    finally:
        for directory, _, _ in os.walk(path, topdown=False):
            with suppress(OSError):
                os.rmdir(directory)


@contextmanager
def _held_back() -> Iterator[None]:
    """Hold signals back: each process of the block takes them when it has somewhere to forward them to."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _forwarded(child: int, numbers: tuple[signal.Signals, ...], become: Callable[[int], int]) -> Iterator[None]:
    """Forward signals to a child while the block waits for it; this process ends with it, not before."""
    before = {
        number: signal.signal(number, lambda received, _: os.kill(child, become(received)))
        for number in numbers
        if signal.getsignal(number) != signal.SIG_IGN
    }
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_parent() -> None:
    libc_call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
