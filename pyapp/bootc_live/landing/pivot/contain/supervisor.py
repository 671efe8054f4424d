"""The first process of a root whose program is not made to be one: it reaps, forwards signals, and ends with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import NoReturn

# Those that ask a system to end, and those that terminals and people send.
_FORWARDED = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT),
)


def supervise(start: Callable[[], NoReturn]) -> int:
    """Run ``start`` in a child, and serve as its init until it ends; return its status as a shell gives it."""
    # Blocked until somebody waits for them: none may be lost.
    watched = {*_FORWARDED, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.setpgid(0, 0)
        _take_terminal()
        start()
    while True:
        received = signal.sigwait(watched)
        if received != signal.SIGCHLD:
            os.kill(child, received)
            continue
        status = _reap(child)
        if status is not None:
            return status


def _reap(child: int) -> int | None:
    """Reap all that have ended; return the status of the child if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = 128 - code if code < 0 else code


def _take_terminal() -> None:
    """Become the foreground process of the terminal, if there is one, so that its keys reach the program."""
    if not os.isatty(0):
        return
    # The one who asks is in the background.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(0, os.getpgrp())
    except OSError:
        return
    finally:
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
