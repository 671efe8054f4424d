"""Terminals that a guest writes to, logged to a file."""

import os
import pty
import re
import select
import termios
import threading
import tty
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_LEVEL: Final = re.compile(rb"<(\d+)>")
_DEFAULT_LEVEL: Final = 4
_POLL_MS: Final = 50
_ROWS, _COLUMNS = 50, 160


class Terminals:
    """A console, and a terminal for /dev/kmsg that shows there what the kernel would show."""

    def __init__(self, log: Path, loglevel: int) -> None:
        """Open both; what comes is appended to ``log`` by a thread. ``loglevel`` is that of the kernel."""
        self._log = log
        self._loglevel = loglevel
        self._console, self._console_end = pty.openpty()
        self._kmsg, self._kmsg_end = pty.openpty()
        tty.setraw(self._kmsg_end)
        termios.tcsetwinsize(self._console_end, (_ROWS, _COLUMNS))
        self.console = os.ttyname(self._console_end)
        self.kmsg = os.ttyname(self._kmsg_end)
        self._over = threading.Event()
        self._rest = b""
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Log the rest of what was written; call it when the guest has ended. May be called twice."""
        self._over.set()
        self._thread.join()

    def close(self) -> None:
        """Close both."""
        self.finish()
        for descriptor in (self._console, self._console_end, self._kmsg, self._kmsg_end):
            os.close(descriptor)

    def _copy(self) -> None:
        poll = select.poll()
        poll.register(self._console, select.POLLIN)
        poll.register(self._kmsg, select.POLLIN)
        filters: dict[int, Callable[[bytes], bytes]] = {self._console: bytes, self._kmsg: self._records}
        with self._log.open("ab", buffering=0) as log:
            while True:
                over = self._over.is_set()
                events = poll.poll(0 if over else _POLL_MS)
                readable = [descriptor for descriptor, event in events if event & select.POLLIN]
                for descriptor in readable:
                    with suppress(OSError):
                        log.write(filters[descriptor](os.read(descriptor, 1 << 16)))
                if over and not readable:
                    return
                if events and not readable:
                    # Hung up, as agetty(8) does before it opens its terminal again.
                    self._over.wait(_POLL_MS / 1000)

    def _records(self, chunk: bytes) -> bytes:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        shown = b""
        for line in lines:
            level = _LEVEL.match(line)
            if (int(level[1]) & 7 if level else _DEFAULT_LEVEL) < self._loglevel:
                shown += line[level.end() if level else 0 :] + b"\r\n"
        return shown
