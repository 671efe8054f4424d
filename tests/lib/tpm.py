"""TPMs for tests, each at the path of a terminal: like /dev/tpmrm0, it takes whole commands and gives whole answers."""

from __future__ import annotations

import os
import pty
import struct
import subprocess
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

GET_CAPABILITY: Final = 0x17A
# In the first answer of a TPM: no more data, TPM_CAP_PCRS.
_PCRS: Final = struct.pack(">BI", 0, 5)


@dataclass
class FakeTpm:
    """A TPM that keeps the commands that extend, and answers them with a code; its banks have the first 24 PCRs."""

    path: str
    banks: list[int] = field(default_factory=lambda: [0x0B])
    code: int = 0
    selection: bytes = b"\xff\xff\xff"
    extended: list[bytes] = field(default_factory=list)

    def answer(self, command: bytes) -> bytes:
        """What it says to a command."""
        if struct.unpack_from(">I", command, 6)[0] == GET_CAPABILITY:
            banks = b"".join(struct.pack(">HB", bank, len(self.selection)) + self.selection for bank in self.banks)
            return _answer(0, _PCRS + struct.pack(">I", len(self.banks)) + banks)
        self.extended.append(command)
        return _answer(self.code, b"")


def _answer(code: int, body: bytes) -> bytes:
    return struct.pack(">HII", 0x8001, 10 + len(body), code) + body


@contextmanager
def _terminal() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    try:
        tty.setraw(slave)
        yield master, slave
    finally:
        os.close(slave)
        os.close(master)


@contextmanager
def fake_tpm() -> Iterator[FakeTpm]:
    """A TPM that runs in a thread."""
    with _terminal() as (master, slave):
        made = FakeTpm(os.ttyname(slave))

        def serve() -> None:
            while (command := os.read(master, 4096)) != b"end":
                os.write(master, made.answer(command))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield made
        finally:
            os.write(slave, b"end")
            thread.join()


@contextmanager
def emulated_tpm(state: Path) -> Iterator[str]:
    """The path of a new TPM of swtpm, which keeps its state in a new directory."""
    state.mkdir()
    argv = ["swtpm", "chardev", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "not-need-init,startup-clear"]
    with _terminal() as (master, slave):
        path = os.ttyname(slave)
        with subprocess.Popen([*argv, "--fd", str(master)], pass_fds=[master], stdin=subprocess.DEVNULL) as running:
            try:
                yield path
            finally:
                running.kill()
