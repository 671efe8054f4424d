"""The few words of QMP, QEMU's control protocol, that a guest needs."""

import json
import re
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class QmpError(Exception):
    """QEMU refused a command or closed the connection."""


class Qmp:
    """A connection to the QMP socket at ``path``; a context manager that closes it."""

    def __init__(self, path: Path, timeout: float = 30.0) -> None:
        """Connect within ``timeout`` seconds; raises OSError when that fails."""
        deadline = time.monotonic() + timeout
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(timeout)
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                self._socket.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self._lines = self._socket.makefile("rb")
        self._lines.readline()
        self.execute("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lines.close()
        self._socket.close()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run ``command`` and return what it answers; raises QmpError."""
        request = {"execute": command, "arguments": arguments}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        while line := self._lines.readline():
            reply = json.loads(line)
            if "error" in reply:
                raise QmpError(f"{command}: {reply['error'].get('desc')}")
            if "return" in reply:
                return reply["return"]
        raise QmpError(f"{command}: QEMU closed the connection")

    def forwarded_port(self, guest_port: int) -> int:
        """Return the port of this machine that QEMU chose for the guest's TCP port."""
        table = self.execute("human-monitor-command", **{"command-line": "info usernet"})
        for line in str(table).splitlines():
            words = line.split()
            if re.match(r"TCP\[HOST_FORWARD\]", line.strip()) and words[5] == str(guest_port):
                return int(words[3])
        raise QmpError(f"no forwarding to guest port {guest_port} in: {table}")
