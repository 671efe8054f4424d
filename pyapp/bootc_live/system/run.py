"""The only module that starts processes.

Programs get an argv list, an empty standard input, a clean environment and the C locale. RunError has the end of their
standard error.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from bootc_live.base.errors import RunError
from bootc_live.system.cleanup.guard import owned
from bootc_live.system.system_call import libc_call

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TAIL = 600
# Seconds that a program has to end, and between two looks whether it has.
_PATIENCE = 20.0
_LOOK = 0.02
_PR_SET_PDEATHSIG = 1


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
    given: str = "",
) -> str:
    """Run a program and return its standard output; ``env`` is added to its environment.

    It reads ``given`` from standard input. Raises RunError if it cannot be started or fails.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=given.encode(),
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


def run_shown(
    argv: Sequence[str],
    show: Callable[[str], None],
    *,
    hint: str = "see the message of the program above",
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a program, and pass what it prints to ``show``, line by line as it comes; raise as ``run``.

    Whatever ends this process, the program gets one SIGTERM, and some time to remove what it has made: a second one
    would end it while it does that.
    """
    said = b""
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment(), **(env or {})},
            cwd=cwd,
            # Not of the process group that is killed when this process has to end.
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - calls nothing that another thread could hold
        )
    except OSError as error:
        raise RunError(f"cannot start {argv[0]!r}: {error.strerror}", hint=hint) from error
    with process, owned(_started, await_end, process.pid) as running:
        try:
            for line in process.stdout or ():
                show(line.decode(errors="replace").rstrip())
                said = (said + line)[-2 * _TAIL :]
            process.wait()
        except BaseException:
            process.terminate()
            raise
        running.forget()
    if process.returncode != 0:
        raise RunError(_failure(argv, process.returncode, said), hint=hint)


def run_attached(argv: Sequence[str], env: Mapping[str, str], given: str | None) -> int:
    """Run a program that prints where this one prints, in exactly this environment; return its status.

    It reads ``given`` from standard input, or that of this program if it is None. The status is negative for a signal.
    If this process is killed, the program gets SIGTERM. Raise OSError if it cannot be started.
    """
    # Found in the PATH that it gets; Popen would use that of this process.
    program = argv[0] if "/" in argv[0] else shutil.which(argv[0], path=env.get("PATH", _PATH))
    if program is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return subprocess.run(
        list(argv),
        executable=program,
        env=dict(env),
        check=False,
        preexec_fn=_end_with_parent,
        **({"input": given.encode()} if given else {"stdin": None if given is None else subprocess.DEVNULL}),
    ).returncode


def await_end(pid: int) -> None:
    """Wait for a program of ``run_shown`` that has got SIGTERM; kill it if it takes too long."""
    with suppress(ProcessLookupError, ChildProcessError):
        last = time.monotonic() + _PATIENCE
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > last:
                os.kill(pid, signal.SIGKILL)
            time.sleep(_LOOK)


def _end_with_parent() -> None:
    libc_call("prctl", _PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _started(pid: int) -> int:
    """Return a process that runs already."""
    return pid


def _failure(argv: Sequence[str], code: int, stderr: bytes) -> str:
    said = stderr.decode(errors="replace").strip()
    if len(said) > _TAIL:
        # Whole lines only, or the end of a long last line.
        said = said[-_TAIL:].partition("\n")[2] or said[-_TAIL:]
    how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
    return f"{os.path.basename(argv[0])} {how}: {said or 'no message'}"
