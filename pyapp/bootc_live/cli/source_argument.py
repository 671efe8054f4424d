"""The SOURCE argument that several verbs take."""

from __future__ import annotations

import argparse
import os

from bootc_live.base.errors import ConfigError
from bootc_live.base.redact import redact_value
from bootc_live.config.source_spec import SourceSpec, parse_source


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
