"""Private directories, and directories that several runs of the program share."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TypeVar

from bootc_live.base.errors import ConfigError
from bootc_live.system.cleanup.guard import owned

# Another run may remove the directory at each try.
_TRIES = 1000

_Made = TypeVar("_Made")


@contextmanager
def private_directory(
    parent: str, prefix: str, *, purpose: str = "", hint: str = "check its permissions and free space"
) -> Iterator[str]:
    """Make a new directory with mode 0700 for the block, and return its absolute path.

    Raises ConfigError; ``purpose`` is the subject of the message, by default the directory.
    """
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(owned(_make, remove_tree, os.path.abspath(parent), prefix))
        except OSError as error:
            subject = purpose or f"a directory in {parent!r}"
            raise ConfigError(f"{subject} cannot be made: {error.strerror}", hint=hint) from error
        yield directory.result


def _make(parent: str, prefix: str) -> str:
    path = os.path.join(parent, f"{prefix}{os.urandom(8).hex()}")
    os.mkdir(path, 0o700)
    return path


@contextmanager
def directory_in_shared(shared: str, prefix: str) -> Iterator[str]:
    """Make an empty directory in one that several runs share, which is made if missing; both are removed when empty.

    Raise OSError.
    """
    with owned(_make_in_shared, _remove_empty, shared, prefix) as made:
        yield made.result


def _make_in_shared(shared: str, prefix: str) -> str:
    # A name of its own, so that two runs do not mount over each other.
    return make_in(shared, lambda: _make(shared, prefix))


def _remove_empty(path: str) -> None:
    for empty in (path, os.path.dirname(path)):
        # It is not empty if it has a receipt, or another run works there.
        with suppress(OSError):
            os.rmdir(empty)


def remove_tree(path: str) -> None:
    """Remove a directory and everything in it, as far as possible."""
    with suppress(OSError):
        remove_entries(path, os.listdir(path))
        os.rmdir(path)


def remove_path(path: str) -> None:
    """Remove a file, or a directory with everything in it; raise OSError."""
    if os.path.isdir(path) and not os.path.islink(path):
        # Subdirectories are moved there: whoever removes the directory finds them.
        remove_entries(path, os.listdir(path))
        os.rmdir(path)
    else:
        os.unlink(path)


def remove_entries(directory: str, names: list[str]) -> None:
    """Remove entries of a directory, of any depth; raises OSError if one cannot be removed, such as a mount point.

    Moves each subdirectory to ``directory`` before it empties it, so that no path gets long and no recursion is needed.
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
    """Yield the names in a directory, each with a descriptor of the directory."""
    below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        yield from ((inside, below) for inside in os.listdir(below))
    finally:
        os.close(below)


def _is_directory(name: str, top: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode)


def make_in(directory: str, make: Callable[[], _Made]) -> _Made:
    """Call ``make``, which makes something in a directory that other runs remove when it is empty; raises OSError."""
    for _ in range(_TRIES - 1):
        try:
            os.makedirs(directory, exist_ok=True)
            return make()
        except FileNotFoundError:
            continue
        except FileExistsError:
            # A file is there, or the directory has been removed in the meantime.
            if os.path.lexists(directory) and not os.path.isdir(directory):
                raise
    os.makedirs(directory, exist_ok=True)
    return make()


_numbers = itertools.count()
