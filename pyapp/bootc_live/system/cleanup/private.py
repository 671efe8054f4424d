"""Private directories, which are gone whatever ends the program."""

from __future__ import annotations

import itertools
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bootc_live.system.cleanup.guard import made


@contextmanager
def private_directory(parent: str, prefix: str) -> Iterator[str]:
    """Make a directory of a new name, mode 0700, for the block; return its absolute path. Raises OSError."""
    with made(_make, remove, os.path.abspath(parent), prefix) as directory:
        yield directory.result


def _make(parent: str, prefix: str) -> str:
    return tempfile.mkdtemp(prefix=prefix, dir=parent)


def remove(path: str) -> None:
    """Remove a directory with all there is in it."""
    with suppress(OSError):
        remove_all(path, os.listdir(path))
        os.rmdir(path)


def remove_all(directory: str, names: list[str]) -> None:
    """Remove names, however deep what they have is; raises OSError for what cannot be removed, such as a mount point.

    Directories are moved to the top, out of which nobody else may look, before they are emptied: no path gets long.
    """
    problems: list[OSError] = []
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    todo = list(names)
    try:
        while todo:
            name = todo.pop()
            try:
                if not _is_directory(name, top):
                    os.unlink(name, dir_fd=top)
                    continue
                for inside, below in _listed(name, top):
                    if _is_directory(inside, below):
                        moved = f".bootc-live-{os.getpid()}-{next(_numbers)}"
                        os.rename(inside, moved, src_dir_fd=below, dst_dir_fd=top)
                        todo.append(moved)
                    else:
                        os.unlink(inside, dir_fd=below)
                os.rmdir(name, dir_fd=top)
            except OSError as error:
                problems.append(error)
    finally:
        os.close(top)
    if problems:
        raise problems[0]


def _listed(name: str, top: int) -> Iterator[tuple[str, int]]:
    """Yield the names in a directory, each with a descriptor of that."""
    below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        yield from ((inside, below) for inside in os.listdir(below))
    finally:
        os.close(below)


def _is_directory(name: str, top: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode)


_numbers = itertools.count()
