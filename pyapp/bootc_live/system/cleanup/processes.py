"""Start processes that run a function of this program: copies of the parent, which has one thread and little memory."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from bootc_live.system.cleanup.guard import STOPPING_SIGNALS, call_in_parent, function_named, name_of

# Above the descriptors that the new process gets.
_FIRST_FREE = 3


class Started:
    """A process of ``started``."""

    def __init__(self, pid: int) -> None:
        """Watch a process that nobody has waited for."""
        self.pid = pid
        self._handle = os.pidfd_open(pid)
        self._status: int | None = None
        self._waiting = threading.Lock()

    def ended(self, seconds: float) -> bool:
        """Wait at most some seconds; return whether it has ended."""
        poller = select.poll()
        poller.register(self._handle, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def wait(self) -> int:
        """Return its exit code, or the negative number of the signal that killed it."""
        with self._waiting:
            if self._status is None:
                select.select([self._handle], [], [])
                self._status = call_in_parent(_reap, self.pid)
            return self._status

    def kill(self) -> None:
        """Kill it if it still runs."""
        if self._status is None:
            # Another thread may have seen its end in the meantime.
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            self.wait()

    def close(self) -> None:
        """Kill it, and stop watching."""
        self.kill()
        os.close(self._handle)


@contextmanager
def started(function: Callable[..., int], *arguments: object, descriptors: tuple[int, int, int]) -> Iterator[Started]:
    """Call a top-level function in a new process, which ends with the block; what it returns is the exit code.

    Its arguments are 0, 1 and 2, which are the descriptors and the only ones it has, and values that can be written as
    JSON. Raise OSError if no process can be started.
    """
    pid = call_in_parent(_start, name_of(function), os.getpgid(0), arguments, descriptors=descriptors)
    process = Started(pid)
    try:
        yield process
    finally:
        process.close()


def _start(first: int, second: int, third: int, name: str, group: int, arguments: list[object]) -> int:
    """Start a process in a process group and return its number; close the descriptors."""
    descriptors = (first, second, third)
    try:
        # Before the fork, so that the next one has it, too.
        function = function_named(name)
        pid = os.fork()
        if pid == 0:
            _become(function, descriptors, arguments)
        # From here, so that no end of the group misses it.
        os.setpgid(pid, group)
        return pid
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _become(function: Callable[..., int], descriptors: tuple[int, ...], arguments: list[object]) -> NoReturn:
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        for number in STOPPING_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _FIRST_FREE) for descriptor in descriptors]
        for place, descriptor in enumerate(moved):
            os.dup2(descriptor, place)
        os.closerange(_FIRST_FREE, os.sysconf("SC_OPEN_MAX"))
        code = function(0, 1, 2, *arguments)
    finally:
        os._exit(code)


def _reap(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def in_foreground() -> Iterator[None]:
    """Be in the foreground of the terminal for the block, in place of the parent, if the terminal is theirs."""
    with suppress(OSError):
        call_in_parent(give_terminal, os.getpgrp())
    try:
        yield
    finally:
        with suppress(OSError):
            call_in_parent(give_terminal, 0)


def give_terminal(group: int) -> None:
    """Put a process group into the foreground of the terminal, 0 for this process's own."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(0, group or os.getpgrp())
    finally:
        signal.signal(signal.SIGTTOU, before)
