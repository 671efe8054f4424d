"""What several verbs read from their arguments, or look at before they begin."""

from __future__ import annotations

import argparse
import os
from contextlib import AbstractContextManager

from bootc_live.base.errors import ConfigError, RootfsError
from bootc_live.base.redact import redact_value
from bootc_live.config.model import Backing
from bootc_live.config.source_spec import SourceSpec, parse_source
from bootc_live.rootfs.workspace import directory_workspace, ram_workspace


def require_root(verb: str) -> None:
    """Raise RootfsError for anybody but root, before anything is fetched."""
    if os.geteuid() != 0:
        raise RootfsError(f"{verb} needs root: it mounts the image and keeps owners", hint="run it as root")


def workspace(chosen: str | None, backing: Backing | None = None) -> AbstractContextManager[str]:
    """Give the place to build in: a private part of a chosen directory, or a file system of our own in RAM."""
    if chosen is None:
        return ram_workspace(backing or Backing())
    if not os.path.isdir(chosen):
        raise ConfigError(f"--workdir {chosen!r} is not a directory", hint="create it, or leave --workdir out")
    return directory_workspace(chosen, backing or Backing())


def source_argument(arguments: argparse.Namespace) -> SourceSpec:
    """Read SOURCE; a relative path counts from here. Raises ConfigError."""
    typed: str = arguments.source
    if "://" not in typed and not typed.startswith("/") and os.path.exists(typed):
        typed = os.path.abspath(typed)
    try:
        return parse_source(typed)
    except ValueError as error:
        # What has none of these can only be meant as a path.
        if typed and not typed.startswith("/") and not set(":=") & set(typed):
            raise ConfigError(
                f"{typed!r}: there is no such file here",
                hint="name an archive, a layout directory or a URL such as docker://registry.example/os:stable",
            ) from error
        raise ConfigError(
            f"{redact_value(arguments.source)!r} {error}", hint="bootc-live --help shows what a SOURCE can be"
        ) from error
