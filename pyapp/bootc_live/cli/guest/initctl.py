"""``bootc-live guest initctl``: serve /dev/initctl."""

from __future__ import annotations

import argparse

from bootc_live.base.errors import ConfigError
from bootc_live.base.numbers import decimal
from bootc_live.landing.guest.tools.initctl import serve
from bootc_live.system.cleanup.guard import succeed_with

# The largest number of a process (proc_sys_kernel(5)).
_LAST = 2**22


def main(arguments: argparse.Namespace) -> int:
    """Let the parent serve it: this process has a copy of all mounts, and would keep them. Raise BootcLiveError."""
    try:
        pid = decimal(arguments.pid, limit=_LAST)
    except ValueError as error:
        raise ConfigError(f"PID {arguments.pid!r} is not a number", hint="name a running process") from error
    succeed_with(serve, arguments.path, pid)
    return 0
