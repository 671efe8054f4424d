"""The only place that starts processes.

Programs get an argv list, a null standard input, a clean environment and the C
locale; what they say on standard error travels in the error that is raised.
"""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from bootc_live.base.errors import RunError
from bootc_live.base.interrupt import held_off, wait_for_the_same

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TAIL = 600


def environment() -> dict[str, str]:
    """Give the environment children get: PATH, the C locale, TMPDIR where it is set."""
    env = {"PATH": _PATH, "LC_ALL": "C.UTF-8"}
    if "TMPDIR" in os.environ:
        env["TMPDIR"] = os.environ["TMPDIR"]
    return env


def find_program(name: str) -> str | None:
    """Give the path of a program on the fixed search path, or None."""
    return shutil.which(name, path=_PATH)


def require_program(name: str, purpose: str, package: str) -> str:
    """Give the path of a program; raise RunError naming its package if it is missing."""
    found = find_program(name)
    if found is None:
        raise RunError(
            f"the program {name!r} is missing; it is needed to {purpose}",
            hint=f"install {package} on the machine that builds the initramfs and build it again",
        )
    return found


def run(
    argv: Sequence[str],
    *,
    hint: str = "see the message of the program above",
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    group: bool = False,
) -> str:
    """Run a program to its end and give its standard output; ``env`` is added to its environment.

    ``group`` is for scripts: where this is interrupted, what the program started ends with it.
    Raises RunError with the end of standard error when it cannot be started
    or exits non-zero.
    """
    process: subprocess.Popen[bytes] | None = None
    try:
        # An interruption between fork and return would leave a process that nobody knows of.
        with held_off():
            process = _start(argv, cwd, env or {}, group)
        stdout, stderr = process.communicate()
    except OSError as error:
        raise RunError(f"cannot start {argv[0]!r}: {error.strerror}", hint=hint) from error
    except BaseException:
        if process is not None:
            _kill(process, group)
            # Not communicate(): broken off in the middle, it cannot be called again.
            with process:
                pass
        raise
    if process.returncode != 0:
        raise RunError(_failure(argv, process.returncode, stderr), hint=hint)
    return stdout.decode(errors="replace")


def _start(argv: Sequence[str], cwd: str | None, env: Mapping[str, str], group: bool) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment(), **env},
        cwd=cwd,
        process_group=0 if group else None,
    )


def _kill(process: subprocess.Popen[bytes], group: bool) -> None:
    if not group:
        process.kill()
        return
    # All of the group may have ended by now.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def filter_process(argv: Sequence[str], stdin: int, stdout: int, closing: Sequence[int]) -> Iterator[Filter]:
    """Run a program between two descriptors; it is gone when the block ends.

    The caller keeps the other ends; those in ``closing`` are closed here once
    the program has them. Leaving the block by an exception kills the program.
    Raises RunError where it cannot be started.
    """
    try:
        with held_off():
            process = subprocess.Popen(
                list(argv), stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=environment()
            )
    except OSError as error:
        raise RunError(f"cannot start {argv[0]!r}: {error.strerror}", hint="check that it can run here") from error
    finally:
        for end in closing:
            os.close(end)
    with process:
        try:
            yield Filter(argv, process)
        except BaseException:
            process.kill()
            raise


class Filter:
    """A running filter program."""

    def __init__(self, argv: Sequence[str], process: subprocess.Popen[bytes]) -> None:
        """Wrap a process made by ``filter_process``."""
        self._argv = argv
        self._process = process

    def limit_file(self, size: int) -> None:
        """End it by a signal where it writes at or beyond byte ``size`` of a file (RLIMIT_FSIZE of prlimit(2))."""
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, size))

    @contextmanager
    def watched(self) -> Iterator[Callable[[float], bool]]:
        """Give a function that waits so many seconds at most and tells whether the program has ended."""
        handle = os.pidfd_open(self._process.pid)
        try:
            poller = select.poll()
            poller.register(handle, select.POLLIN)
            yield lambda seconds: bool(poller.poll(seconds * 1000))
        finally:
            os.close(handle)

    def finish(self) -> None:
        """Wait for the end; raise RunError with what the program said if it failed."""
        stderr: IO[bytes] | None = self._process.stderr
        said = stderr.read() if stderr is not None else b""
        code = self._process.wait()
        if code != 0:
            raise RunError(_failure(self._argv, code, said), hint="the data it was given is damaged")


def _failure(argv: Sequence[str], code: int, stderr: bytes) -> str:
    said = stderr.decode(errors="replace").strip()
    if len(said) > _TAIL:
        # Whole lines only, or the one long last line.
        said = said[-_TAIL:].partition("\n")[2] or said[-_TAIL:]
    if code < 0:
        wait_for_the_same(-code)
    how = f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
    return f"{os.path.basename(argv[0])} {how}: {said or 'it said nothing'}"
