"""The only module that starts processes.

Programs get an argv list, an empty standard input, a clean environment and the C locale. RunError has the end of their
standard error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from bootc_live.base.errors import RunError

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TAIL = 600


def environment() -> dict[str, str]:
    """Return the environment of programs: PATH, the C locale, and TMPDIR if it is set."""
    env = {"PATH": _PATH, "LC_ALL": "C.UTF-8"}
    if "TMPDIR" in os.environ:
        env["TMPDIR"] = os.environ["TMPDIR"]
    return env


def find_program(name: str) -> str | None:
    """Return the path of a program on the fixed search path, or None."""
    return shutil.which(name, path=_PATH)


def require_program(name: str, purpose: str, package: str) -> str:
    """Return the path of a program; raises RunError that names its package if it is missing."""
    found = find_program(name)
    if found is None:
        raise RunError(
            f"the program {name!r} is missing; it is needed to {purpose}",
            hint=f"install {package}; for an initramfs, install it on the machine that builds it, and build it again",
        )
    return found


def run(
    argv: Sequence[str],
    *,
    hint: str = "see the message of the program above",
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program and return its standard output; ``env`` is added to its environment.

    Raises RunError if it cannot be started or fails.
    """
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**environment(), **(env or {})},
            cwd=cwd,
            check=False,
        )
    except OSError as error:
        raise RunError(f"cannot start {argv[0]!r}: {error.strerror}", hint=hint) from error
    if done.returncode != 0:
        raise RunError(_failure(argv, done.returncode, done.stderr), hint=hint)
    return done.stdout.decode(errors="replace")


def _failure(argv: Sequence[str], code: int, stderr: bytes) -> str:
    said = stderr.decode(errors="replace").strip()
    if len(said) > _TAIL:
        # Whole lines only, or the end of a long last line.
        said = said[-_TAIL:].partition("\n")[2] or said[-_TAIL:]
    how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
    return f"{os.path.basename(argv[0])} {how}: {said or 'no message'}"
