"""Create result files and directories completely or not at all, and never replace existing ones."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.errors import ConfigError, OutOfMemoryError, RootfsError
from bootc_live.system.cleanup.directories import private_directory
from bootc_live.system.cleanup.guard import commit

_PREFIX = ".bootc-live."
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_EXISTS = frozenset({errno.EEXIST, errno.ENOTEMPTY})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
# Readable by everyone: another user may serve or boot it.
_FILE, _DIRECTORY = 0o644, 0o755
_WRITABLE = "name a directory that you may write to"


@contextmanager
def staging_directory(path: str) -> Iterator[str]:
    """Make a private directory on the file system of the new file ``path``; raises ConfigError."""
    if os.path.lexists(path):
        raise ConfigError(f"{path!r} exists", hint="name a new file")
    with private_directory(
        os.path.dirname(os.path.abspath(path)), _PREFIX, purpose=repr(path), hint="name a file in a writable directory"
    ) as directory:
        yield directory


def publish_file(finished: str, path: str, mode: int = _FILE) -> None:
    """Move a finished file to ``path``; raises RootfsError."""
    with write_errors(path):
        # An EFI system partition has no modes.
        with suppress(PermissionError):
            os.chmod(finished, mode)
        commit(link_new, finished, os.path.abspath(path))


def link_new(finished: str, target: str) -> None:
    """Move a finished file to a name on the same file system that must be new; raises OSError."""
    try:
        # Unlike rename(2), link(2) never replaces a file, not even a new one.
        os.link(finished, target)
    except OSError as error:
        if error.errno not in _NO_LINKS or os.path.lexists(target):
            raise
        os.rename(finished, target)


@contextmanager
def disk_full_hint(place: str) -> Iterator[None]:
    """Replace the hint of OutOfMemoryError: not memory is full, but the file system of ``place``."""
    try:
        yield
    except OutOfMemoryError as error:
        error.hint = f"free space on the file system of {place}, or use another file system"
        raise


@contextmanager
def write_errors(path: str) -> Iterator[None]:
    """Raise OSError of the block as a RootfsError about ``path``."""
    try:
        yield
    except OSError as error:
        raise RootfsError(f"{path!r} cannot be made: {error.strerror}", hint=write_error_hint(error)) from error


def write_error_hint(error: OSError) -> str:
    """Return the hint for an error of writing to a place that the user has named."""
    if error.errno in _FULL:
        return "free space there, or name another path"
    if error.errno in _EXISTS:
        return "it has been made in the meantime: look at it, or name another path"
    return "check that it is writable, or name another path"


@contextmanager
def new_directory(path: str) -> Iterator[tuple[str, str]]:
    """Make two private directories: one that becomes the directory ``path``, and one for temporary files.

    ``path`` must be new or empty. It is filled when the block ends without an exception, else it does not change.
    Raises ConfigError and RootfsError.
    """
    target = os.path.abspath(path)
    exists = os.path.lexists(target)
    try:
        if exists and (os.path.islink(target) or not os.path.isdir(target) or os.listdir(target)):
            raise ConfigError(f"{path!r} exists and is not an empty directory", hint="name a new directory")
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be read: {error.strerror}", hint=_WRITABLE) from error
    parent = target if exists else os.path.dirname(target)
    with private_directory(parent, _PREFIX, purpose=repr(path), hint=_WRITABLE) as private:
        result, scratch = os.path.join(private, "result"), os.path.join(private, "scratch")
        os.mkdir(result)
        os.mkdir(scratch)
        yield result, scratch
        with write_errors(path):
            with suppress(PermissionError):
                os.chmod(result, _DIRECTORY)
            commit(_move, result, target, int(exists))


def _move(result: str, target: str, exists: int) -> None:
    if not exists:
        # rename(2) replaces an empty directory that was made in the meantime, and fails for anything else.
        os.rename(result, target)
        return
    # It may be a mount point or a current directory, so it is filled, not replaced.
    moved: list[str] = []
    try:
        for name in os.listdir(result):
            os.rename(os.path.join(result, name), os.path.join(target, name))
            moved.append(os.path.join(target, name))
    except BaseException:
        for path in moved:
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        raise
