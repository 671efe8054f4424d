"""Arguments and checks that several verbs share."""

from __future__ import annotations

import argparse
import os
from contextlib import AbstractContextManager

from bootc_live.base.errors import ConfigError, RootfsError
from bootc_live.base.log import Recorder
from bootc_live.base.redact import redact_value
from bootc_live.config.host.trust import desk_trust
from bootc_live.config.model import Backing
from bootc_live.config.source_spec import (
    AnySpec,
    ArchiveFile,
    Layered,
    LayerSpec,
    RootfsDirectory,
    RootfsTar,
    SourceSpec,
    parse_source,
)
from bootc_live.rootfs.workspace import directory_workspace, ram_workspace
from bootc_live.source.access import Access


def require_root(verb: str) -> None:
    """Raise RootfsError for other users than root, before anything is fetched."""
    if os.geteuid() != 0:
        raise RootfsError(f"{verb} needs root: it mounts the image and keeps owners", hint="run it as root")


def workspace(chosen: str | None, backing: Backing | None = None) -> AbstractContextManager[str]:
    """Return the directory to build in: a private part of ``chosen``, or a new file system in RAM."""
    if chosen is None:
        return ram_workspace(backing or Backing())
    if not os.path.isdir(chosen):
        raise ConfigError(f"--workdir {chosen!r} is not a directory", hint="create it, or leave --workdir out")
    return directory_workspace(chosen, backing or Backing())


def desk_access(arguments: argparse.Namespace, recorder: Recorder, directory: str | None = None) -> Access:
    """Return the access to SOURCE with the options of all verbs that have it; raise ConfigError for a key or policy."""
    return Access(
        recorder.warn,
        label=arguments.label,
        unsecure=arguments.unsecure,
        directory=directory,
        trust=desk_trust(arguments.key, arguments.policy),
    )


def source_argument(arguments: argparse.Namespace) -> SourceSpec:
    """Return SOURCE, where a path may be relative; raise ConfigError."""
    return _parsed(arguments.source)


def layered_argument(arguments: argparse.Namespace) -> AnySpec:
    """Return all of SOURCE as one image; a path may also be a directory or a tar of files. Raise ConfigError."""
    parts = tuple(map(_layer, arguments.source))
    if len(parts) == 1 and not isinstance(parts[0], RootfsTar | RootfsDirectory):
        return parts[0]
    return Layered(parts, " + ".join(part.source_text for part in parts))


def _layer(source_text: str) -> LayerSpec:
    # A late import: an initramfs does not have that module.
    from bootc_live.source.rootfs.tar import holds_images, is_layout

    spec = _parsed(source_text)
    if isinstance(spec, ArchiveFile) and os.path.isdir(spec.path):
        return spec if is_layout(spec.path) else RootfsDirectory(spec.path, spec.source_text)
    if isinstance(spec, ArchiveFile) and os.path.isfile(spec.path) and not holds_images(spec.path, spec.source_text):
        return RootfsTar(spec.path, spec.source_text)
    return spec


def _parsed(typed: str) -> SourceSpec:
    source_text = typed
    if "://" not in source_text and not source_text.startswith("/") and os.path.exists(source_text):
        source_text = os.path.abspath(source_text)
    try:
        return parse_source(source_text)
    except ValueError as error:
        # Without these characters, it can only be a path.
        if source_text and not source_text.startswith("/") and not set(":=") & set(source_text):
            raise ConfigError(
                f"{source_text!r} is not a file or directory",
                hint="name an archive, a layout directory or a URL such as docker://registry.example/os:stable",
            ) from error
        raise ConfigError(
            f"{redact_value(typed)!r} {error}", hint="bootc-live --help shows what a SOURCE can be"
        ) from error
