"""``bootc-live prune``: remove layers from the cache."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict

from bootc_live.base.errors import ConfigError
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.base.units import mib
from bootc_live.cli.options.cache import cache_directory, size_limit
from bootc_live.source.cache import DEFAULT, DiskCache, Trimmed


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    if arguments.keep is not None:
        return _prune_deployments(arguments)
    for option, given in (("--disk", arguments.disk), ("--boot", arguments.boot)):
        if given is not None:
            raise ConfigError(
                f"{option} {given!r} is of no use without --keep: layers are removed from the cache of this machine",
                hint="add --keep N, or leave it out",
            )
    limit = size_limit(arguments)
    path, name = cache_directory(arguments) or (DEFAULT, repr(DEFAULT))
    trimmed = Trimmed(0, 0, 0, 0)
    if os.path.lexists(path):
        cache = DiskCache(path, Recorder())
        cache.check(name)
        try:
            trimmed = cache.trim(limit or 0)
        except OSError as error:
            raise ConfigError(
                f"layers of {name} cannot be removed: {error.strerror}", hint="check its permissions"
            ) from error
    elif arguments.cache is not None:
        raise ConfigError(f"{name} does not exist", hint="name the directory that the layers are in")
    if arguments.json:
        print_json({"cache": path, **asdict(trimmed)})
    else:
        removed = f"{trimmed.removed} layers removed ({mib(trimmed.removed_size)})"
        print_results([f"{removed}, {trimmed.left} left ({mib(trimmed.left_size)})"])
    return 0


def _prune_deployments(arguments: argparse.Namespace) -> int:
    # A late import: a cache needs none of this.
    from bootc_live.cli.disk.common import opened_machine
    from bootc_live.landing.disk.upgrade import prune_deployments

    if arguments.keep < 0:
        raise ConfigError(f"--keep {arguments.keep} is not a number of deployments", hint="write for example --keep 2")
    with opened_machine(arguments) as (machine, _):
        removed = prune_deployments(machine, arguments.keep)
    if arguments.json:
        print_json({"removed": removed})
    else:
        print_results([f"deployments removed: {', '.join(map(str, removed)) or 'none'}"])
    return 0
