"""The roots with the dracut versions that have to work, and how a test enters them."""

from __future__ import annotations

import functools
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parents[2]
HERE = REPO / "tests" / "roots"
ROOTS = REPO / "vm" / "out" / "roots"

Row = tuple[str, ...]
"""One run of a script: the kernel command line, and the arguments."""


class Done(NamedTuple):
    """What a script printed and exited with."""

    stdout: str
    stderr: str
    status: int


@dataclass(frozen=True)
class Root:
    """A root of vm/roots: `kernels` is the root whose kernel it makes initrds for."""

    name: str
    dracut: str
    python: str
    kernels: str
    hooks: str

    def __str__(self) -> str:
        return f"dracut-{self.dracut}"

    def run(self, *argv: str | Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command in a scratch copy of the root; raises AssertionError where it fails and `ok` is set."""
        command = [REPO / "vm" / "enter", self.name, *argv]
        done = subprocess.run(
            command,
            cwd=REPO,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )
        assert not ok or done.returncode == 0, f"{argv} exited with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done

    def stage(
        self,
        script: str,
        cmdline: str = "",
        arguments: tuple[str, ...] = (),
        *,
        among: tuple[Row, ...] = (),
        ok: bool = True,
    ) -> Done:
        """Run a dash script beside dracut's library and our hooks; `stage-row` beside this file says what it finds.

        The root is entered once for all the rows of `among`, of which this is one.
        Raises AssertionError where the script fails and `ok` is set.
        """
        row = (cmdline, *arguments)
        done = _staged(self, script, among or (row,))[row]
        assert not ok or done.status == 0, f"{row} exited with {done.status}:\n{done.stdout}{done.stderr}"
        return done

    def kernel(self) -> tuple[str, Path]:
        """The release of the kernel that initrds are made for, and the directory of its modules as seen inside."""
        top = ROOTS / self.kernels / "usr/lib/modules"
        (release,) = (path.name for path in top.iterdir())
        return release, (top if self.kernels != self.name else Path("/usr/lib/modules")) / release


@functools.cache
def _staged(root: Root, script: str, rows: tuple[Row, ...]) -> Mapping[Row, Done]:
    with tempfile.TemporaryDirectory(dir=REPO / "build", prefix="rows-") as name:
        where = Path(name)
        (where / "script").write_text(script)
        for number, (cmdline, *arguments) in enumerate(rows):
            row = where / f"{number:03}"
            row.mkdir()
            (row / "cmdline").write_text(f"{cmdline}\n")
            (row / "arguments").write_text(f"set -- {shlex.join(arguments)}\n")
        root.run(HERE / "stage", root.name, where)
        return {row: _done(where / f"{number:03}") for number, row in enumerate(rows)}


def _done(row: Path) -> Done:
    said, complained = ((row / name).read_text(errors="surrogateescape") for name in ("stdout", "stderr"))
    return Done(said, complained, int((row / "status").read_text()))


OLDEST = Root("bookworm", "059", "3.11", "bookworm", "usr/lib/dracut/hooks")
BUILDER = Root("builder", "106", "3.13", "live", "var/lib/dracut/hooks")
NEWEST = Root("forky", "112", "3.14", "forky", "var/lib/dracut/hooks")
ALL = (OLDEST, BUILDER, NEWEST)


def variables(text: str) -> Mapping[str, str]:
    """The output of dash's `set`, for variables whose values have one line."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
