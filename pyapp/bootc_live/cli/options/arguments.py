"""Arguments and checks that several verbs share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager

from bootc_live.artifacts.uki import Signing
from bootc_live.base.errors import ConfigError, RootfsError
from bootc_live.base.log import Recorder
from bootc_live.base.redact import redact_value
from bootc_live.config.cmdline.values import parse_size
from bootc_live.config.host.trust import desk_trust
from bootc_live.config.model import Backing
from bootc_live.config.source_spec import (
    AnySpec,
    ArchiveFile,
    Containerfile,
    Layered,
    LayerSpec,
    RegistryImage,
    RootfsDirectory,
    RootfsTar,
    SourceSpec,
    parse_source,
)
from bootc_live.rootfs.workspace import directory_workspace, ram_workspace
from bootc_live.source.access import Access
from bootc_live.source.interface import LayerCache

# What has no names to choose from.
_UNLABELLED = (RegistryImage, RootfsTar, RootfsDirectory, Containerfile)
_LABELS = "name the archive as it is named as a source: --label SOURCE=NAME"


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


def size_argument(option: str, text: str) -> int:
    """Return the bytes of a size in MiB, or such as ``2G``; raise ConfigError."""
    try:
        return parse_size(f"{text}M" if text.isdecimal() else text, lambda: 0)
    except ValueError as error:
        raise ConfigError(
            f"{option} {text!r} is not a size",
            hint=f"write a number of MiB, or a size, such as {option} 2048 or {option} 2G",
        ) from error


def desk_access(
    arguments: argparse.Namespace,
    recorder: Recorder,
    directory: str | None = None,
    cache: LayerCache | None = None,
) -> Access:
    """Return the access to SOURCE with the options of all verbs that have it; raise ConfigError for a key or policy."""
    return Access(
        recorder.warn,
        label=arguments.label,
        unsecure=arguments.unsecure,
        directory=directory,
        trust=desk_trust(arguments.key, arguments.policy),
        cache=cache,
    )


def signing_arguments(key_option: str, key: str | None, option: str, certificate: str | None) -> Signing | None:
    """Return the key for Secure Boot that two options name, None without them; raise ConfigError for one of them."""
    if key is None and certificate is None:
        return None
    if key is None or certificate is None:
        raise ConfigError(f"{key_option} and {option} must be used together", hint="give both, or neither")
    return Signing(os.path.abspath(key), os.path.abspath(certificate))


def labels_argument(arguments: argparse.Namespace, spec: AnySpec) -> tuple[str | None, dict[str, str]]:
    """Return the label of the only archive, and those of archives by their texts; raise ConfigError."""
    parts = spec.parts if isinstance(spec, Layered) else (spec,)
    archives = [part.source_text for part in parts if not isinstance(part, _UNLABELLED)]
    plain, named = [], {}
    for typed in arguments.label:
        source, separator, label = typed.rpartition("=")
        if not separator:
            plain.append(typed)
            continue
        text = _parsed(source).source_text
        if text not in archives:
            raise ConfigError(
                f"--label {typed!r} is for {source!r}, which is no archive among the sources", hint=_LABELS
            )
        named[text] = label
    if plain and (len(plain) > 1 or len(archives) > 1):
        raise ConfigError(f"--label {plain[-1]!r} may be meant for several archives", hint=_LABELS)
    return (plain[0] if plain else None), named


def source_argument(arguments: argparse.Namespace) -> SourceSpec:
    """Return SOURCE, where a path may be relative; raise ConfigError."""
    return _parsed(arguments.source)


def layered_argument(arguments: argparse.Namespace) -> AnySpec:
    """Return all of SOURCE, and what is built, as one image; a path may also be a directory or a tar of files.

    Raise ConfigError, and RunError if nothing can be built here.
    """
    if arguments.config is not None:
        # A late import: only a file needs the library.
        from bootc_live.cli.options.config_file import add_from_file

        add_from_file(arguments)
    parts = (*map(_layer, arguments.source), *_containerfile(arguments))
    if not parts:
        raise ConfigError(f"--config {arguments.config!r} names no source", hint="add sources: to it, or name SOURCE")
    if len(parts) == 1 and not isinstance(parts[0], RootfsTar | RootfsDirectory | Containerfile):
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


def _containerfile(arguments: argparse.Namespace) -> Iterator[Containerfile]:
    typed, context = arguments.containerfile, arguments.context
    if typed is None:
        if context is not None:
            raise ConfigError(f"--context {context!r} is of no use alone", hint="name a --containerfile, too")
        return
    if not os.path.isfile(typed):
        raise ConfigError(f"--containerfile {typed!r} is not a file", hint="name the Containerfile itself")
    if context is not None and not os.path.isdir(context):
        raise ConfigError(
            f"--context {context!r} is not a directory", hint="name the directory that the Containerfile copies from"
        )
    # A late import, as above.
    from bootc_live.source.rootfs.containerfile import find_builder

    find_builder(typed)
    path = os.path.abspath(typed)
    yield Containerfile(path, os.path.abspath(context or os.path.dirname(path)), redact_value(typed))


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
