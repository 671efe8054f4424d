"""Read a guest's YAML file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import yaml

from bootc_live.base.errors import ConfigError
from bootc_live.base.redact import redact_value
from bootc_live.config.guest.document import Document, TooManyValuesError
from bootc_live.config.guest.id_map import read_id_map
from bootc_live.config.guest.model import (
    DEFAULT_PATH,
    DEFAULT_ROOT,
    Command,
    GuestConfig,
    GuestRoot,
    ImageSource,
    RootMode,
    SetupMode,
)

_KEYS = ("root", "id_map", "initctl", "devices", "setup", "exec", "rescue")
_GROUPS = {"setup": ("mode", "before"), "exec": ("before", "command"), "devices": ("exclude",)}
_LAYOUT_ARGUMENT = "bootc.live.layout"
_LARGEST = 1 << 20
_HINT = "correct that file; docs/guest.md explains its keys"

Value = TypeVar("Value")


def read_guest_config(named: str | None) -> GuestConfig:
    """Return what the file ``named`` says, by default /mnt/init.yml; without that, the defaults. Raise ConfigError."""
    path = DEFAULT_PATH if named is None else named
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError as error:
        if named is None and not os.path.lexists(path):
            return GuestConfig()
        raise ConfigError(f"{path!r} cannot be read: {error.strerror}", hint="check the path") from error
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be read: {error.strerror}", hint="check the path") from error
    except ValueError as error:
        raise ConfigError(f"{path!r} cannot be read: {error}", hint="check the path") from error
    if len(content) > _LARGEST:
        raise ConfigError(f"{path!r} has more than {_LARGEST >> 20} MiB: it is no guest's file", hint="check the path")
    try:
        return parse_guest_config(content.decode(), path)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path!r} is not text in UTF-8: line {line}: {error.reason}", hint=_HINT) from error


def parse_guest_config(text: str, path: str) -> GuestConfig:
    """Return what a text says; raise ConfigError with all mistakes, each with its line."""
    document = Document()
    top = document.compose(text)
    config = GuestConfig(path)
    if top is not None:
        with suppress(TooManyValuesError):
            config = document.of_kind(top, {"map": partial(_config, document, path)}, "the file") or config
    if document.mistakes:
        listed = [f"line {line}: {sentence}" for line, sentence in sorted(document.mistakes)]
        many = f"{len(listed)} mistakes" if len(listed) > 1 else "a mistake"
        raise ConfigError(f"{path!r} has {many}: {'; '.join(listed)}", hint=_HINT)
    return config


def _config(document: Document, path: str, top: yaml.Node) -> GuestConfig:
    entries = document.entries(top, _KEYS)
    for name, known in _GROUPS.items():
        if name in entries:
            entries |= _group(document, entries[name], known, name)

    def read(key: str, reader: Callable[[Document, yaml.Node, str], Value | None], default: Value) -> Value:
        value = reader(document, entries[key], key) if key in entries else None
        return default if value is None else value

    plain = GuestConfig()
    id_map = read_id_map(document, entries["id_map"]) if "id_map" in entries else None
    return GuestConfig(
        path,
        read("root", _root, plain.root),
        id_map,
        read("initctl", Document.flag, plain.initctl),
        read("devices.exclude", _devices, plain.excluded_devices),
        read("setup.mode", _setup_mode, plain.setup),
        read("setup.before", _commands, plain.before_setup),
        read("exec.before", _commands, plain.before_exec),
        read("exec.command", _program, plain.command),
        read("rescue", Document.flag, plain.rescue),
    )


def _group(document: Document, node: yaml.Node, known: tuple[str, ...], key: str) -> dict[str, yaml.Node]:
    """Return the entries of a mapping by their full keys."""
    found = document.of_kind(node, {"map": lambda mapping: document.entries(mapping, known, key)}, key)
    return {f"{key}.{name}": value for name, value in (found or {}).items()}


def _root(document: Document, node: yaml.Node, key: str) -> GuestRoot | None:
    return document.of_kind(
        node,
        {
            "str": lambda scalar: GuestRoot(_path(document, scalar, key)),
            "map": lambda mapping: _root_mapping(document, mapping, key),
        },
        key,
    )


def _root_mapping(document: Document, node: yaml.Node, key: str) -> GuestRoot:
    entries = document.entries(node, ("path", "mode", "source", "layout", "cmdline"), key)
    mode = RootMode.PIVOT
    if "mode" in entries:
        # An empty value says none, as it does to a person.
        empty = document.kind(entries["mode"]) == "null"
        word = "none" if empty else document.choice(entries["mode"], tuple(map(str, RootMode)), f"{key}.mode")
        mode = RootMode(word or mode)
    path = _path(document, entries["path"], f"{key}.path") if "path" in entries else DEFAULT_ROOT
    if "source" not in entries:
        for name in ("layout", "cmdline"):
            if name in entries:
                document.wrong(entries[name], f"{key}.{name}", "is of no use without source")
        return GuestRoot(path, mode)
    if "path" in entries:
        document.wrong(entries["path"], f"{key}.path", "and source cannot both be the root")
    if mode is RootMode.NONE:
        document.wrong(entries["mode"], f"{key}.mode", "is none, but source makes a root")
    return GuestRoot(mode=mode, source=_source(document, entries, key))


def _source(document: Document, entries: dict[str, yaml.Node], key: str) -> ImageSource:
    # Late imports: most guests have a directory.
    from bootc_live.config.cmdline.parse import parse_cmdline
    from bootc_live.config.model import Layout
    from bootc_live.config.source_spec import parse_source

    source = document.text(entries["source"], f"{key}.source")
    try:
        if source is not None:
            parse_source(source)
    except ValueError as error:
        document.wrong(entries["source"], f"{key}.source", f"{redact_value(source or '')!r} {error}")
    words = []
    if "layout" in entries and (layout := document.choice(entries["layout"], tuple(map(str, Layout)), f"{key}.layout")):
        words.append(f"{_LAYOUT_ARGUMENT}={layout}")
    if "cmdline" in entries and (cmdline := document.text(entries["cmdline"], f"{key}.cmdline")):
        words.append(cmdline)
        try:
            config = parse_cmdline(cmdline, {})
        except ConfigError as error:
            document.wrong(entries["cmdline"], f"{key}.cmdline", f"is wrong: {error.message}")
        else:
            if config.sources or config.kexec is not None:
                document.wrong(entries["cmdline"], f"{key}.cmdline", "has root= or bootc.kexec")
    return ImageSource(source or "", " ".join(words))


def _path(document: Document, node: yaml.Node, key: str) -> str:
    path = document.text(node, key)
    if path is not None and not path.startswith("/"):
        document.wrong(node, key, f"is {path!r}, not a path that begins with /")
    # Two slashes would stay two (POSIX).
    return os.path.normpath(f"/{path.lstrip('/')}") if path else DEFAULT_ROOT


def _setup_mode(document: Document, node: yaml.Node, key: str) -> SetupMode | None:
    if document.kind(node) == "null":
        return SetupMode.NONE
    word = document.choice(node, tuple(map(str, SetupMode)), key)
    return SetupMode(word) if word is not None else None


def _devices(document: Document, node: yaml.Node, key: str) -> tuple[str, ...] | None:
    def one(scalar: yaml.Node, name: str) -> str:
        text = document.text(scalar, name)
        if text is None:
            return ""
        text = text.removeprefix("/dev/")
        if os.path.isabs(text) or os.path.normpath(text) != text or text.split("/")[0] in ("", ".", ".."):
            document.wrong(scalar, name, f"is {text!r}, not the name of a device below /dev")
        return text

    return document.of_kind(
        node,
        {
            "str": lambda scalar: (one(scalar, key),),
            "seq": lambda items: tuple(one(each, f"{key}[{at}]") for at, each in enumerate(items.value)),
        },
        key,
    )


def _commands(document: Document, node: yaml.Node, key: str) -> tuple[Command, ...] | None:
    def one(single: yaml.Node) -> tuple[Command, ...]:
        command = _command(document, single, key)
        return (command,) if command is not None else ()

    def listed(items: yaml.Node) -> tuple[Command, ...]:
        found = [_command(document, each, f"{key}[{at}]") for at, each in enumerate(items.value)]
        return tuple(command for command in found if command is not None)

    def off(scalar: yaml.Node) -> tuple[Command, ...]:
        if document.flag(scalar, key):
            document.wrong(scalar, key, "is true; write commands, or false")
        return ()

    return document.of_kind(node, {"seq": listed, "str": one, "map": one, "bool": off}, key)


def _program(document: Document, node: yaml.Node, key: str) -> tuple[str, ...] | None:
    command = _command(document, node, key)
    if command is not None and command.input is not None:
        document.wrong(node, key, "has input, but the guest's init reads from the console")
    return command.argv if command is not None else None


def _command(document: Document, node: yaml.Node, key: str) -> Command | None:
    def mapping(node: yaml.Node) -> Command | None:
        entries = document.entries(node, ("command", "input"), key)
        given = document.text(entries["input"], f"{key}.input") if "input" in entries else None
        if "command" not in entries:
            document.wrong(node, key, "has no command")
            return None
        inner = f"{key}.command"
        kinds = {"str": partial(_words, document, inner), "seq": partial(_arguments, document, inner)}
        return _checked(document, entries["command"], document.of_kind(entries["command"], kinds, inner), key, given)

    def words(node: yaml.Node) -> Command | None:
        return _checked(document, node, _words(document, key, node), key)

    def arguments(node: yaml.Node) -> Command | None:
        return _checked(document, node, _arguments(document, key, node), key)

    return document.of_kind(node, {"str": words, "seq": arguments, "map": mapping}, key)


def _words(document: Document, key: str, node: yaml.Node) -> tuple[str, ...] | None:
    """Split a text as a shell does."""
    text = document.text(node, key)
    if text is None:
        return None
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        document.wrong(node, key, f"cannot be split into words: {str(error).lower()}")
        return None


def _arguments(document: Document, key: str, node: yaml.Node) -> tuple[str, ...] | None:
    found = [document.text(each, f"{key}[{at}]") for at, each in enumerate(node.value)]
    return tuple(each for each in found if each is not None) if None not in found else None


def _checked(
    document: Document, node: yaml.Node, argv: tuple[str, ...] | None, key: str, given: str | None = None
) -> Command | None:
    if argv is None:
        return None
    if not argv or not argv[0]:
        document.wrong(node, key, "names no program")
        return None
    return Command(argv, key, given)
