"""The roots with the dracut versions that have to work, and how a test enters them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
HERE = REPO / "tests" / "roots"
ROOTS = REPO / "vm" / "out" / "roots"


@dataclass(frozen=True)
class Root:
    """A root of vm/roots: `kernels` is the root whose kernel it makes initrds for."""

    name: str
    dracut: str
    python: str
    kernels: str
    hooks: str

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
        self, script: str, cmdline: str = "", arguments: tuple[str, ...] = (), *, ok: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs a dash script beside dracut's library and our hooks; `stage` beside this file says what it finds."""
        return self.run(HERE / "stage", cmdline, script, *arguments, ok=ok)

    def kernel(self) -> tuple[str, Path]:
        """The release of the kernel that initrds are made for, and the directory of its modules as seen inside."""
        top = ROOTS / self.kernels / "usr/lib/modules"
        (release,) = (path.name for path in top.iterdir())
        return release, (top if self.kernels != self.name else Path("/usr/lib/modules")) / release


ALL = (
    Root("bookworm", "059", "3.11", "bookworm", "usr/lib/dracut/hooks"),
    Root("builder", "106", "3.13", "live", "var/lib/dracut/hooks"),
    Root("forky", "112", "3.14", "forky", "var/lib/dracut/hooks"),
)


def variables(text: str) -> Mapping[str, str]:
    """The output of dash's `set`, for variables whose values have one line."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
