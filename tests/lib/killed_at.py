"""Ends a verb with SIGKILL at its n-th step, as a power cut would: in a fork of the program, see `forked_program`.

Steps are what changes a file system, as the process that does the work comes to it: Python's audit events, syncs, and
system calls that Python does not have. A step is written to a log before it happens, so a run that is not ended shows
all of them.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

_EVENTS: Final = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.symlink", "os.truncate", "os.chmod")
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Functions that Python's audit events do not show.
_CALLS: Final = ("os:fsync", "os:sync", "bootc_live.system.files:libc_call")


class _Killer:
    def __init__(self, request: Mapping[str, Any]) -> None:
        self._last: int = request["step"]
        self._first = os.getpid()
        self._count = 0
        self._log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        # A file system that may write its journal at any time has done so just now.
        self._synced: list[str] = request["synced"]
        self._fsync = os.fsync
        self._busy = False

    def event(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes) and isinstance(flags, int) and flags & _WRITES:
                self.step("open", path)
        elif name in _EVENTS:
            self.step(name, *(part for part in arguments if isinstance(part, str | bytes)))

    def step(self, *words: object) -> None:
        # The parent only waits.
        if self._busy or os.getpid() == self._first:
            return
        self._busy = True
        self._count += 1
        os.write(self._log, f"{' '.join(map(str, words))}\n".encode(errors="surrogateescape"))
        if self._count == self._last:
            for path in self._synced:
                self._fsync(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
            # The parent would clean up.
            os.kill(os.getppid(), signal.SIGKILL)
            os.killpg(0, signal.SIGKILL)
        self._busy = False

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self.step(name, *(part for part in arguments if isinstance(part, str | bytes)))
            return function(*arguments, **more)

        return call


def arm(request: Mapping[str, Any]) -> None:
    """Let this process be ended at a step; 0 is none."""
    killer = _Killer(request)
    for place in _CALLS:
        module, _, name = place.partition(":")
        owner = importlib.import_module(module)
        setattr(owner, name, killer.counted(name, getattr(owner, name)))
    sys.addaudithook(killer.event)
