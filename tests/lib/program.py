"""Runs the zipapp the way people and units do: a process of its own in this mount namespace.

`python3 -m tests.lib.program ZIPAPP PLACE` copies it with byte code for that Python.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

ERROR: Final = "bootc-live: error: "
HINT: Final = "bootc-live: what to do: "
# Of a run that hangs; a busy machine needs some of it.
SECONDS: Final = 300
# What the machine that runs the tests trusts is none of the program's business.
ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
# A command that runs its arguments as a user of no privileges.
NOBODY: Final = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--no-new-privs",
    "--inh-caps=-all",
    "--",
]


def byte_code(zipapp: Path) -> Path:
    """Return where `bootc-live freeze` leaves the byte code of a zipapp for this interpreter."""
    return zipapp.parent / "__pycache__" / f"{zipapp.name}.{sys.implementation.cache_tag}"


def compile_beside(zipapp: Path) -> None:
    """Leave byte code beside a zipapp: a start takes a third of the time then. Several may ask for it at once."""
    with zipapp.with_name("compiling.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = byte_code(zipapp)
        if not made.exists() or made.stat().st_mtime_ns != zipapp.stat().st_mtime_ns:
            argv = [sys.executable, str(zipapp), "freeze"]
            subprocess.run(argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


def copied(zipapp: Path, place: Path) -> Path:
    """Return a copy of a zipapp at `place`, with its byte code if it has some.

    Both have a time without fractions of a second, so that they belong to each other in layers, too.
    """
    shutil.copy(zipapp, place)
    os.utime(place, (0, 0))
    if byte_code(zipapp).exists():
        byte_code(place).parent.mkdir(exist_ok=True)
        shutil.copy(byte_code(zipapp), byte_code(place))
        os.utime(byte_code(place), (0, 0))
    return place


@dataclass(frozen=True)
class Ended:
    """A finished run: exit status and what it said."""

    status: int
    stdout: str
    stderr: str

    def good(self) -> Ended:
        """Itself, if it succeeded."""
        assert self.status == 0, f"exit status {self.status}:\n{self.stderr}"
        assert ERROR not in self.stderr
        return self

    def error(self, *named: str | Path) -> str:
        """The one error message, with its hint, of a run that failed as it should; `named` must be in the message.

        Nothing comes after the two lines, and no traceback before them.
        """
        assert self.status == 1, f"exit status {self.status}:\n{self.stdout}{self.stderr}"
        lines = self.stderr.splitlines()
        assert sum(line.startswith((ERROR, HINT)) for line in lines) == 2, self.stderr
        assert "Traceback" not in self.stderr
        start = next(number for number, line in enumerate(lines) if line.startswith(ERROR))
        hint = next(number for number, line in enumerate(lines) if line.startswith(HINT))
        assert start < hint == len(lines) - 1, self.stderr
        assert len(lines[hint]) > len(HINT), "the hint is empty"
        message = "\n".join(lines[start:hint])
        for text in named:
            assert str(text) in message, f"{text} is not named:\n{message}"
        return "\n".join(lines[start:])


class Program:
    """The zipapp, run by this interpreter."""

    def __init__(self, zipapp: Path, *, before: Sequence[str] = ()) -> None:
        """`before` is a command that runs its arguments, such as unshare(1)."""
        self.zipapp = zipapp
        self._command = [*before, sys.executable, str(zipapp)]

    def run(
        self, *argv: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: int | None = None
    ) -> Ended:
        """Runs a verb to its end; `env` is added to a small clean environment."""
        # Not pipes: a process that outlives one that was killed would keep their other end.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            done = subprocess.run(
                [*self._command, *argv],
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=out,
                stderr=err,
                env={**ENVIRONMENT, **(env or {})},
                cwd=cwd,
                timeout=SECONDS,
                check=False,
            )
            return Ended(done.returncode, *(_text(file) for file in (out, err)))

    def timed(self, *argv: str | Path) -> list[tuple[float, str]]:
        """The lines that a verb that succeeds says, each with the seconds from the start; the last is its end."""
        began = time.monotonic()
        with subprocess.Popen(
            [*self._command, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        ) as process:
            assert process.stderr is not None
            lines = [(time.monotonic() - began, line.rstrip("\n")) for line in process.stderr]
            status = process.wait()
        lines.append((time.monotonic() - began, ""))
        assert status == 0, "\n".join(line for _, line in lines)
        return lines

    @contextmanager
    def started(self, *argv: str | Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A verb in a process group of its own that writes to `log`; killed with the block if it still runs."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self._command, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.kill(process.pid, 9)
                process.wait()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="backslashreplace")


if __name__ == "__main__":
    compile_beside(Path(sys.argv[1]))
    copied(*map(Path, sys.argv[1:]))
