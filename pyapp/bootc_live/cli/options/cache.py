"""The options of the verbs that use the cache."""

from __future__ import annotations

import argparse
import os

from bootc_live.base.errors import ConfigError
from bootc_live.base.log import Recorder
from bootc_live.cli.options.arguments import size_argument
from bootc_live.source.cache import DEFAULT, DiskCache

_VARIABLE = "CACHE_DIRECTORY"


def cache_argument(arguments: argparse.Namespace, recorder: Recorder, *, required: bool = False) -> DiskCache | None:
    """Return the cache of a verb, None if it has none; raise ConfigError.

    It is the one that was named, else the default one if it is there, or ``required`` to hold the result.
    """
    limit = size_limit(arguments)
    chosen = cache_directory(arguments)
    if arguments.no_cache or (chosen is None and not required and not _usable(DEFAULT)):
        if limit is not None:
            raise ConfigError(f"--max-size {arguments.max_size!r} is for a cache, and none is used", hint="add --cache")
        return None
    path, name = chosen or (DEFAULT, f"the cache {DEFAULT!r}")
    cache = DiskCache(path, recorder, limit=limit, required=required)
    cache.check(name)
    return cache


def cache_directory(arguments: argparse.Namespace) -> tuple[str, str] | None:
    """Return the directory that was named, and how; None if none was. Raise ConfigError."""
    if arguments.cache == "":
        raise ConfigError("--cache '' is not a directory", hint="name one, or leave --cache out")
    if arguments.cache is not None:
        return os.path.abspath(arguments.cache), f"--cache {arguments.cache!r}"
    # Of several, systemd.exec(5) lists the unit's first one first.
    first = os.environ.get(_VARIABLE, "").partition(":")[0]
    return (os.path.abspath(first), f"{_VARIABLE} {first!r}") if first else None


def _usable(path: str) -> bool:
    """Return whether it is a directory of this user."""
    try:
        return os.stat(path).st_uid == os.geteuid()
    except OSError:
        return False


def size_limit(arguments: argparse.Namespace) -> int | None:
    """Return the bytes of --max-size, None without it; raise ConfigError."""
    if arguments.max_size is None:
        return None
    return 0 if arguments.max_size == "0" else size_argument("--max-size", arguments.max_size)
