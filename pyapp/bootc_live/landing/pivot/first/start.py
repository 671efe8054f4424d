"""Become the program of a root."""

from __future__ import annotations

import os
import signal
from typing import NoReturn

from bootc_live.landing.pivot.program import Program
from bootc_live.system.cleanup.guard import ENDING_SIGNALS

# As shells say it.
NOT_STARTED = 126


def start(program: Program, told: int | None = None) -> NoReturn:
    """Become the program, in its directory and as its user; tell why not, or raise OSError."""
    for number in (*ENDING_SIGNALS, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
    try:
        os.chdir(program.directory)
        os.setgroups(program.groups)
        os.setresgid(program.gid, program.gid, program.gid)
        os.setresuid(program.uid, program.uid, program.uid)
        os.execve(program.path, program.argv, program.environment)  # noqa: S606
    except OSError as error:
        if told is None:
            raise
        os.write(told, (error.strerror or "unknown").encode())
        os._exit(NOT_STARTED)
