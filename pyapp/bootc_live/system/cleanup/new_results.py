"""Files and directories that a verb makes: whole or not at all, and never in the place of anybody's."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from bootc_live.base.errors import ConfigError, OutOfMemoryError, RootfsError
from bootc_live.system.cleanup.guard import commit
from bootc_live.system.cleanup.private import private_directory

_PREFIX = ".bootc-live."
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY})
_WITHOUT_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
# Whoever serves or boots it need not be who made it.
_FILE, _DIRECTORY = 0o644, 0o755


@contextmanager
def place_beside(typed: str) -> Iterator[str]:
    """Give a private directory on the file system where the new file ``typed`` is to be; raises ConfigError."""
    if os.path.lexists(typed):
        raise ConfigError(f"{typed!r} exists", hint="name a new file")
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(private_directory(os.path.dirname(os.path.abspath(typed)), _PREFIX))
        except OSError as error:
            raise ConfigError(
                f"{typed!r} cannot be made: {error.strerror}", hint="name a file in a directory you may write to"
            ) from error
        yield directory


def publish_file(made: str, typed: str) -> None:
    """Give a finished file its name; raises RootfsError."""
    target = os.path.abspath(typed)
    with writing(typed):
        # An EFI system partition knows no such modes.
        with suppress(PermissionError):
            os.chmod(made, _FILE)
        commit(_give_name, made, target)


def _give_name(made: str, target: str) -> None:
    try:
        # Not replace: nobody's file is taken away, not even one that came in the meantime.
        os.link(made, target)
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS or os.path.lexists(target):
            raise
        os.rename(made, target)


@contextmanager
def room_wanted(place: str) -> Iterator[None]:
    """Say of a full file system in the block what to do about it: no memory is meant here."""
    try:
        yield
    except OutOfMemoryError as error:
        error.hint = f"make room where {place} is to be, or name a place on another file system"
        raise


@contextmanager
def writing(typed: str) -> Iterator[None]:
    """Make what goes wrong with files in the block an error about ``typed``; raises RootfsError."""
    try:
        yield
    except OSError as error:
        raise RootfsError(f"{typed!r} cannot be made: {error.strerror}", hint=what_to_do(error)) from error


def what_to_do(error: OSError) -> str:
    """Return the hint for a place where something could not be written."""
    if error.errno in _FULL:
        return "make room there, or name another place"
    if error.errno in _TAKEN:
        return "something else was made there meanwhile; look at that, or name another place"
    return "check that it can be written to, or name another place"


@contextmanager
def new_directory(typed: str) -> Iterator[tuple[str, str]]:
    """Give two private directories: for what becomes the directory ``typed``, and for what goes away again.

    When the block is left without an exception, everything in the first one is in ``typed``, which had to be new or
    empty; after an exception nothing is there. Raises ConfigError and RootfsError.
    """
    target = os.path.abspath(typed)
    there = os.path.lexists(target)
    with ExitStack() as stack:
        try:
            if there and (os.path.islink(target) or not os.path.isdir(target) or os.listdir(target)):
                raise ConfigError(f"{typed!r} exists and is not an empty directory", hint="name a new directory")
            private = stack.enter_context(private_directory(target if there else os.path.dirname(target), _PREFIX))
        except OSError as error:
            raise ConfigError(
                f"{typed!r} cannot be made: {error.strerror}", hint="name a directory in one you may write to"
            ) from error
        result, scratch = os.path.join(private, "result"), os.path.join(private, "scratch")
        os.mkdir(result)
        os.mkdir(scratch)
        yield result, scratch
        with writing(typed):
            with suppress(PermissionError):
                os.chmod(result, _DIRECTORY)
            commit(_move, result, target, int(there))


def _move(result: str, target: str, there: int) -> None:
    if not there:
        # An empty directory that came in the meantime is replaced, anything else an error.
        os.rename(result, target)
        return
    # It may be a mount point, or where somebody stands: it is filled, not replaced.
    moved: list[str] = []
    try:
        for name in os.listdir(result):
            os.rename(os.path.join(result, name), os.path.join(target, name))
            moved.append(os.path.join(target, name))
    except BaseException:
        for path in moved:
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        raise
