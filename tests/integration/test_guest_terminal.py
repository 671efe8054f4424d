"""A guest on a terminal: its console, and the shell that its file asks for after an error."""

from __future__ import annotations

import os
import select
import subprocess
import time
from pathlib import Path

import pytest

from tests.lib.container import FIRST, MAP, Container, config, give
from tests.lib.program import ENVIRONMENT

SECONDS = 120


def talk(container: Container, path: Path, typed: bytes = b"") -> tuple[int, str]:
    """Run a guest on a terminal, type something once its rescue shell is there; return its status and what it said."""
    ours, theirs = os.openpty()
    said, deadline = b"", time.monotonic() + SECONDS
    # The terminal becomes that of a new session.
    argv = ["setsid", "--ctty", "--wait", *container.argv("--config", path)]
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=ENVIRONMENT) as process:
        os.close(theirs)
        try:
            while select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
                try:
                    piece = os.read(ours, 4096)
                except OSError:
                    # The last process has closed it.
                    break
                said += piece
                if typed and b"when it ends" in said:
                    os.write(ours, typed)
                    typed = b""
            else:
                process.kill()
                pytest.fail(f"it goes on: {said.decode(errors='replace')}")
        finally:
            os.close(ours)
    return process.returncode, said.decode().replace("\r", "")


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
