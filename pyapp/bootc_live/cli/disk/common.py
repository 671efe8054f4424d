"""What all verbs for systems on a disk have in common."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bootc_live.base.errors import ConfigError
from bootc_live.base.log import Recorder
from bootc_live.cli.options.arguments import require_root, workspace
from bootc_live.config.model import Config
from bootc_live.landing.disk.machine import Machine, other_machine, this_machine
from bootc_live.landing.disk.settings import Settings
from bootc_live.source.access import Access, access_for


@contextmanager
def opened_machine(arguments: argparse.Namespace) -> Iterator[tuple[Machine, str]]:
    """Yield the machine that the options name, and a directory for temporary files; raise BootcLiveError."""
    require_root(arguments.verb.rpartition(".")[2])
    if arguments.disk is None and arguments.boot is not None:
        raise ConfigError(f"--boot {arguments.boot!r} is of no use alone", hint="name the disk with --disk, too")
    with workspace(getattr(arguments, "workdir", None)) as directory:
        chosen = arguments.disk, arguments.boot
        opened = this_machine(directory) if arguments.disk is None else other_machine(*chosen, directory)
        with opened as machine:
            yield machine, directory


def machine_access(settings: Settings, recorder: Recorder, directory: str) -> Access:
    """Return the access to newer images of a machine; raise ConfigError.

    They must meet what the machine was installed with, and the policies of the running system.
    """
    config = Config(label=settings.label, registry_unsecure=settings.unsecure)
    access = access_for(config, recorder.warn, directory)
    access.trust = replace(access.trust, policies=(*access.trust.policies, *settings.trust.trust.policies))
    return access
