"""The only module that starts processes.

Programs get an argv list, an empty standard input, a clean environment and the C locale. RunError has the end of their
standard error.
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
# For decompressors: the window of zstd has at most 128 MiB, and they open only libraries. A shell sets the limits,
# because this process cannot set those of another user's process, nor run Python code between fork and exec.
_LIMITED = 'ulimit -c 0; ulimit -v 1048576; ulimit -n 32; ulimit -f $1; shift; exec "$@"'
# Bytes per unit of ulimit -f in POSIX shells.
_LIMIT_UNIT = 512


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


@contextmanager
def filter_process(
    argv: Sequence[str], stdin: int, stdout: int, closing: Sequence[int], most: int = 0
) -> Iterator[Filter]:
    """Run a confined program between two descriptors; an exception in the block kills it.

    Its input may exploit a bug in it. So it runs as nobody, can only write its output sequentially, and has no network
    (see ``system.confine``). A signal ends it if it writes at or beyond byte ``most`` of a file.

    The descriptors in ``closing`` are closed here after the start. Raises RunError if it cannot be started.
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

    # Only this thread is confined.
    with ThreadPoolExecutor(max_workers=1) as pool:
        try:
            return pool.submit(start, NOBODY if os.geteuid() == 0 else None).result()
        except OSError as error:
            # A container may not have this user.
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
            return pool.submit(start, None).result()


class Filter:
    """A running filter program."""

    def __init__(self, argv: Sequence[str], process: subprocess.Popen[bytes]) -> None:
        """Wrap a process of ``filter_process``."""
        self._argv = argv
        self._process = process

    @contextmanager
    def watched(self) -> Iterator[Callable[[float], bool]]:
        """Yield a function that waits at most some seconds and returns whether the program has ended."""
        handle = os.pidfd_open(self._process.pid)
        try:
            poller = select.poll()
            poller.register(handle, select.POLLIN)
            yield lambda seconds: bool(poller.poll(seconds * 1000))
        finally:
            os.close(handle)

    def finish(self) -> None:
        """Wait for the end; raises RunError with the standard error of the program if it failed."""
        stderr: IO[bytes] | None = self._process.stderr
        said = stderr.read() if stderr is not None else b""
        code = self._process.wait()
        if code != 0:
            raise RunError(_failure(self._argv, code, said), hint="the data it was given is damaged")


def _failure(argv: Sequence[str], code: int, stderr: bytes) -> str:
    said = stderr.decode(errors="replace").strip()
    if len(said) > _TAIL:
        # Whole lines only, or the end of a long last line.
        said = said[-_TAIL:].partition("\n")[2] or said[-_TAIL:]
    how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
    return f"{os.path.basename(argv[0])} {how}: {said or 'no message'}"
