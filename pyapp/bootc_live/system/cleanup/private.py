"""Private directories, which are gone whatever ends the program."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.errors import RunError
from bootc_live.system.cleanup.guard import made
from bootc_live.system.run import run

# Names of 255 bytes for one program: the kernel takes 2 MiB of arguments, or less.
_AT_ONCE = 1000


@contextmanager
def private_directory(parent: str, prefix: str) -> Iterator[str]:
    """Make a directory of a new name, mode 0700, for the block; return its absolute path. Raises OSError."""
    with made(_make, remove, os.path.abspath(parent), prefix) as directory:
        yield directory.result


def _make(parent: str, prefix: str) -> str:
    return tempfile.mkdtemp(prefix=prefix, dir=parent)


def remove(path: str) -> None:
    """Remove a directory with all there is in it."""
    with suppress(RunError):
        remove_all(os.path.dirname(path), [os.path.basename(path)])


def remove_all(directory: str, names: list[str]) -> None:
    """Remove names, however deep what they have is: Python's own removal ends where its stack or descriptors do."""
    for begin in range(0, len(names), _AT_ONCE):
        run(["rm", "-rf", "--one-file-system", "--", *names[begin : begin + _AT_ONCE]], cwd=directory)
