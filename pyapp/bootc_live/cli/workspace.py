"""The ``--workdir`` argument that several verbs take."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

from bootc_live.base.errors import ConfigError
from bootc_live.config.model import Backing
from bootc_live.rootfs.workspace import directory_workspace, ram_workspace


def workspace(chosen: str | None, backing: Backing | None = None) -> AbstractContextManager[str]:
    """Give the place to build in: a private part of a chosen directory, or a file system of our own in RAM."""
    if chosen is None:
        return ram_workspace(backing or Backing())
    if not os.path.isdir(chosen):
        raise ConfigError(f"--workdir {chosen!r} is not a directory", hint="create it, or leave --workdir out")
    return directory_workspace(chosen, backing or Backing())
