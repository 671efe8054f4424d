"""Options of a verb in a YAML file, by their long names: for units and for machines that always do the same."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Mapping, Sequence

import yaml

from bootc_live.base.errors import ConfigError

_SOURCES = "sources"
# What a file may say: a text, whether something is so, or a list of texts.
_OPTIONS: dict[str, type] = {
    _SOURCES: list,
    "command": list,
    "key": list,
    "label": list,
    **dict.fromkeys(("flush-firewall", "headless", "unsecure", "no-cache"), bool),
    **dict.fromkeys(("release-old-root", "yes-i-have-a-console"), bool),
    **dict.fromkeys(("cmdline", "containerfile", "context", "entrypoint", "keep-old-root", "log", "on-exit"), str),
    **dict.fromkeys(("cache", "max-size", "policy", "rollback-after"), str),
    **dict.fromkeys(("tailscale-authkey-file", "via", "workdir"), str),
}
# Which texts some may be.
_CHOICES = {"on-exit": ("reboot", "poweroff", "shell", "return"), "via": ("soft-reboot", "takeover", "kexec")}
_KINDS = {str: "a text", bool: "true or false", list: "a list of texts"}
_HINT = "correct that file; docs/pivot.md shows its format"


def add_from_file(arguments: argparse.Namespace) -> None:
    """Add what the file of --config says, where the command line says nothing; raise ConfigError with all mistakes."""
    if arguments.config is None:
        return
    told = read_options(arguments.config, _OPTIONS, _CHOICES, _HINT)
    if told.get("keep-old-root") and told.get("release-old-root"):
        raise ConfigError(f"--config {arguments.config!r} both keeps and releases the old root", hint=_HINT)
    if any(getattr(arguments, name, None) for name in ("keep_old_root", "release_old_root")):
        # The command line has decided.
        told = {name: value for name, value in told.items() if not name.endswith("-old-root")}
    for name, value in told.items():
        place = "source" if name == _SOURCES else name.replace("-", "_")
        if hasattr(arguments, place) and not getattr(arguments, place):
            setattr(arguments, place, value)


def read_options(
    path: str, kinds: Mapping[str, type], choices: Mapping[str, Sequence[str]], hint: str
) -> dict[str, object]:
    """Return what the file of --config says, or standard input for ``-``; raise ConfigError with all mistakes.

    ``kinds`` are its keys and the types of their values, and ``choices`` lists which texts some may be.
    """
    try:
        # A FIFO would wait for a writer.
        with open(0 if path == "-" else path, encoding="utf-8", closefd=path != "-", opener=_without_waiting) as file:
            if path != "-" and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"--config {path!r} is no regular file", hint="name one, or - for standard input")
            data = yaml.safe_load(file)
    except OSError as error:
        raise ConfigError(f"--config {path!r} cannot be read: {error.strerror}", hint="check the path") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"--config {path!r} is not YAML: {problem}", hint=hint) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"--config {path!r} is not a mapping", hint=hint)
    mistakes = [f"{name!r} is unknown" for name in data if name not in kinds]
    mistakes += [
        f"{name!r} is not {_KINDS[kinds[name]]}"
        for name, value in data.items()
        if name in kinds and not _fits(value, kinds[name])
    ]
    mistakes += [
        f"{name!r} is not one of {', '.join(texts)}"
        for name, texts in choices.items()
        if isinstance(data.get(name), str) and data[name] not in texts
    ]
    if mistakes:
        raise ConfigError(f"--config {path!r} cannot be used: {'; '.join(mistakes)}", hint=hint)
    return data


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _fits(value: object, kind: type) -> bool:
    return isinstance(value, kind) and (not isinstance(value, list) or all(isinstance(item, str) for item in value))
