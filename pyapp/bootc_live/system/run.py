"""The only place that starts processes.

Programs get an argv list, a null standard input, a clean environment and the C
locale; what they say on standard error travels in the error that is raised.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO

from bootc_live.base.errors import RunError
from bootc_live.system.confine import NOBODY, confine_thread

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TAIL = 600
# For programs that inflate: zstd's window is 128 MiB at the most, and they open nothing but their libraries. A shell
# sets the limits, because nobody else may do it for another user's process, and Python not between fork and exec.
_LIMITED = 'ulimit -c 0; ulimit -v 1048576; ulimit -n 32; ulimit -f $1; shift; exec "$@"'
# Bytes, of ulimit -f in POSIX shells.
_LIMIT_UNIT = 512


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
) -> str:
    """Run a program to its end and return its standard output; ``env`` is added to its environment.

    Raises RunError with the end of standard error when it cannot be started or exits non-zero.
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


@contextmanager
def filter_process(
    argv: Sequence[str], stdin: int, stdout: int, closing: Sequence[int], most: int = 0
) -> Iterator[Filter]:
    """Run a program between two descriptors, confined; it is gone when the block ends.

    What it reads may be meant to make it do something else than it should. So it is nobody's, may change no file but
    write its output from front to back, and reaches no network (see ``system.confine``). Where it writes at or beyond
    byte ``most`` of a file, a signal ends it.

    The caller keeps the other ends; those in ``closing`` are closed here once
    the program has them. Leaving the block by an exception kills the program.
    Raises RunError where it cannot be started.
    """
    try:
        process = _confined(argv, stdin, stdout, most)
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


def _confined(argv: Sequence[str], stdin: int, stdout: int, most: int) -> subprocess.Popen[bytes]:
    if find_program(argv[0]) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def start(user: int | None) -> subprocess.Popen[bytes]:
        confine_thread()
        return subprocess.Popen(
            ["sh", "-c", _LIMITED, "sh", str(most // _LIMIT_UNIT), *argv],
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment(),
            cwd="/",
            user=user,
            group=user,
            extra_groups=None if user is None else (),
        )

    # A thread of its own, which takes along what is confined.
    with ThreadPoolExecutor(max_workers=1) as pool:
        try:
            return pool.submit(start, NOBODY if os.geteuid() == 0 else None).result()
        except OSError as error:
            # A container may have no such user.
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
            return pool.submit(start, None).result()


class Filter:
    """A running filter program."""

    def __init__(self, argv: Sequence[str], process: subprocess.Popen[bytes]) -> None:
        """Wrap a process made by ``filter_process``."""
        self._argv = argv
        self._process = process

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
    how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
    return f"{os.path.basename(argv[0])} {how}: {said or 'it said nothing'}"
