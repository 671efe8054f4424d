"""Places where the tools mount."""

from __future__ import annotations

import os

from bootc_live.base.errors import ConfigError, RunError
from bootc_live.system.mounts import attach_tree


def existing(name: str, path: str) -> None:
    """Raise ConfigError if a path does not exist; ``name`` is the argument."""
    try:
        os.stat(path)
    except OSError as error:
        raise ConfigError(f"{name} {path!r} cannot be used: {error.strerror}", hint="name one that exists") from error


def directory(name: str, path: str) -> str:
    """Return a directory's absolute path without links; raise ConfigError."""
    existing(name, path)
    if not os.path.isdir(path):
        raise ConfigError(f"{name} {path!r} is not a directory", hint="name a directory")
    return os.path.realpath(path)


def attach(tree: int, where: str) -> None:
    """Attach a detached mount and close it; raise RunError."""
    try:
        attach_tree(tree, os.path.realpath(where))
    except OSError as error:
        raise RunError(
            f"nothing can be mounted at {where!r}: {error.strerror}", hint="run it as root, with CAP_SYS_ADMIN"
        ) from error
    finally:
        os.close(tree)
