"""A shell in the builder root, for the commands of a page."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Final

from vmkit.paths import REPO, VM

_DONE: Final = "-- done --"


class Shell:
    """Commands are run as a person would type them; the first that fails ends it."""

    def __init__(self, stdin: IO[str], stdout: IO[str]) -> None:
        self._stdin, self._stdout = stdin, stdout

    def run(self, commands: str) -> str:
        """What the commands said; raises AssertionError where one of them fails."""
        self._stdin.write(f"{commands}\necho '{_DONE}'\n")
        self._stdin.flush()
        said: list[str] = []
        for line in self._stdout:
            if line == f"{_DONE}\n":
                return "".join(said)
            said.append(line)
        raise AssertionError(f"a command failed:\n{commands}\n{''.join(said)}")


@contextmanager
def builder_shell(inside: Callable[..., list[str]] = lambda *argv: list(map(str, argv))) -> Iterator[Shell]:
    """Start it in this repository; all that runs there ends with the block. `inside` puts it into a network."""
    with subprocess.Popen(
        inside(VM / "enter", "builder", "sh", "-eu"),
        cwd=REPO,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        try:
            yield Shell(shell.stdin, shell.stdout)
        finally:
            # What it started in the background ends with it: it is the first process of its namespace.
            shell.kill()
