"""Run the programs of directories, also those that the kernel would not start: an interpreter gets scripts."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence

from bootc_live.base.errors import ConfigError, FailedProgramError, RunError
from bootc_live.base.output import print_message
from bootc_live.system.run import run_attached

# Hidden files, and what editors and package managers leave beside a file.
_LEFT = re.compile(r"[.#].*|.*(~|,|\.(bak|orig|rej|swp|tmp|disabled|rpmnew|rpmorig|rpmsave|dpkg-[a-z]+|ucf-[a-z]+))")
# The kernel reads so much of a file to find out how to start it, and goes so far from one interpreter to the next.
_HEAD = 256
_DEEPEST = 40
_MOST_INTERPRETERS = 4
_CHECK = "check its first line, and what that names"
_HINT = "make it executable and its file system one without noexec, or begin it with a line such as #!/bin/sh"


def run_parts(paths: Sequence[str], arguments: Sequence[str]) -> int:
    """Run programs, and those in directories by name, each with ``arguments``; return 0.

    Raise FailedProgramError for the first that fails, and RunError if it cannot be started.
    """
    for top in paths:
        for path, command in tolerant([top if "/" in top else f"./{top}", *arguments]):
            try:
                status = run_attached(command, os.environ, None)
            except OSError as error:
                raise RunError(f"{path!r} cannot be started: {error.strerror}", hint=_CHECK) from error
            if status:
                how = f"was killed by signal {-status}" if status < 0 else f"exited with {status}"
                raise FailedProgramError(
                    f"{path!r} {how}",
                    hint="see what it printed above; what comes after it was not run",
                    status=128 - status if status < 0 else status,
                )
    return 0


def tolerant(argv: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield what a command means, as paths and the commands that start them: more than one if it names a directory.

    A name without a directory is that of a program in PATH, and stays as it is. Say what is skipped in directories.
    Raise ConfigError and RunError.
    """
    first, *arguments = argv
    if "/" not in first:
        yield first, argv
        return
    for path in programs(first, lambda name: print_message(f"skipped, by its name: {name!r}")):
        yield path, command_for(path, arguments)


def programs(path: str, skipped: Callable[[str], None], inside: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """Yield a path, or all files of a directory, ordered by the bytes of their names, and so on in directories there.

    Raise ConfigError for a path that does not exist, or is a directory inside of itself.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISDIR(found.st_mode):
            yield path
            return
        names = sorted(os.listdir(path), key=os.fsencode)
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be run: {error.strerror}", hint="name a file or a directory") from error
    if (found.st_dev, found.st_ino) in inside or len(inside) > _DEEPEST:
        raise ConfigError(f"{path!r} is inside of itself, or of too many directories", hint="remove the link")
    for name in names:
        if _LEFT.fullmatch(name):
            skipped(os.path.join(path, name))
        else:
            yield from programs(os.path.join(path, name), skipped, (*inside, (found.st_dev, found.st_ino)))


def command_for(path: str, arguments: Sequence[str]) -> list[str]:
    """Return the command that starts a file: itself, or its interpreter (execve(2)); raise RunError."""
    command = [path, *arguments]
    for _ in range(_MOST_INTERPRETERS):
        # This is false for all files on a mount without execution.
        if os.access(command[0], os.X_OK) or "/" not in command[0]:
            return command
        try:
            command = [*_interpreter(command[0]), *command]
        except OSError as error:
            raise RunError(f"{path!r} cannot be started: {command[0]!r}: {error.strerror}", hint=_CHECK) from error
    raise RunError(f"{path!r} is a script for a script, and so on", hint=_HINT)


def _interpreter(path: str) -> list[str]:
    """Return the interpreter of a script, with the argument that it may have; raise RunError and OSError."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise RunError(f"{path!r} is no program", hint="remove it")
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    line, newline, _ = head.partition(b"\n")
    # The rest of the line is one argument.
    words = re.split(r"[ \t]+", os.fsdecode(line.removeprefix(b"#!")).strip(" \t"), maxsplit=1)
    if not head.startswith(b"#!") or not words[0] or not (newline or len(head) < _HEAD):
        raise RunError(f"{path!r} is not executable, and no script", hint=_HINT)
    return words
