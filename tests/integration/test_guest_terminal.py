"""A guest on a terminal: its console, and the shell that its file asks for after an error."""

from __future__ import annotations

import os
import pty
import select
import time
from pathlib import Path

import pytest

from tests.lib.container import FIRST, MAP, Container, config, give

SECONDS = 120


def talk(container: Container, path: Path, typed: bytes = b"") -> tuple[int, str]:
    """Run a guest on a terminal, type something once its rescue shell is there; return its status and what it said."""
    argv = container.argv("--config", path)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(argv[0], argv)
    said, deadline = b"", time.monotonic() + SECONDS
    try:
        while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                piece = os.read(terminal, 4096)
            except OSError:
                # The last process has closed it.
                break
            said += piece
            if typed and b"when it ends" in said:
                os.write(terminal, typed)
                typed = b""
        else:
            os.kill(pid, 9)
            pytest.fail(f"it goes on: {said.decode(errors='replace')}")
    finally:
        os.close(terminal)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, said.decode().replace("\r", "")


@pytest.mark.parametrize("id_map", ["", MAP], ids=["plain", "mapped"])
def test_console(container: Container, root: Path, tmp_path: Path, id_map: str) -> None:
    if id_map:
        give(root, FIRST)
    path = tmp_path / "guest.yml"
    script = "tty; stat -c '%u:%g' /dev/console; setsid sh -c 'exec >/dev/console; echo opened'; ls /dev/pts"
    path.write_text(config(root, script, id_map))
    status, said = talk(container, path)
    assert (status, said.split()) == (0, ["/dev/console", "0:0", "opened", "ptmx"])


@pytest.mark.parametrize("where", ["setup", "exec"])
def test_rescue(container: Container, root: Path, tmp_path: Path, where: str) -> None:
    path = tmp_path / "guest.yml"
    path.write_text(f"root: {root}\nrescue: true\n{where}: {{before: 'false'}}\n")
    status, said = talk(container, path, b"echo $((6 * 7))\nexit\n")
    assert status == 1
    assert "42" in said.split()
    assert f"{where}.before: 'false' exited with 1" in said
