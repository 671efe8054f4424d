"""The first process of a root whose program is not made to be one: it reaps, forwards signals, and ends with it."""

from __future__ import annotations

import fcntl
import os
import signal
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

# Those that ask a system to end, and those that terminals and people send.
_FORWARDED = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT),
)


def own_group() -> None:
    """Lead a process group in the foreground of the terminal, if there is one, so that its keys reach the program."""
    os.setpgid(0, 0)
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


def own_session() -> None:
    """Lead a session; its terminal is standard input, if that is one."""
    os.setsid()
    with suppress(OSError):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def supervise(
    start: Callable[[], NoReturn],
    lead: Callable[[], None] = own_group,
    at_alarm: Callable[[], None] = lambda: None,
) -> int:
    """Run ``start`` in a child, and serve as its init until it ends; return its status as a shell gives it.

    The child calls ``lead`` first. At SIGALRM, this process calls ``at_alarm``.
    """
    # Blocked until somebody waits for them: none may be lost.
    watched = {*_FORWARDED, signal.SIGCHLD, signal.SIGALRM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        lead()
        start()
    while True:
        received = signal.sigwait(watched)
        if received == signal.SIGALRM:
            at_alarm()
        elif received != signal.SIGCHLD:
            os.kill(child, received)
        elif (status := _reap(child)) is not None:
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
