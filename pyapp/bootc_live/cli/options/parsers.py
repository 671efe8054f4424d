"""Kinds of parsers: what they say of mistakes, and options that may also come from a file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from bootc_live.base.output import one_line
from bootc_live.base.redact import redact

# Options that say the same thing in several ways: a file says nothing of it if the command line does.
_SAME = (("device", "serial", "smallest"),)
_HINT = "correct that file: its keys are the long options, and a number that is a text has quotes"


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong on one line, and without secrets."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        super().error(one_line(redact(message)))


class FileParser(Parser):
    """A parser all of whose arguments may also be in the YAML file of ``--config``; the command line comes first.

    It parses once.
    """

    def parse_known_args(  # type: ignore[override] # argparse has overloads for other kinds of namespaces
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse a command line and its file; raise ConfigError for a mistake in the file."""
        finder = argparse.ArgumentParser(add_help=False)
        finder.add_argument("--config")
        path = finder.parse_known_args(args)[0].config
        if path is None:
            return super().parse_known_args(args, namespace)
        # A late import: only a file needs the library.
        from bootc_live.cli.options.config_file import read_options

        actions = {_name(action): action for action in self._actions if action.dest not in ("help", "config")}
        kinds = {name: _kind(action) for name, action in actions.items()}
        choices = {name: tuple(action.choices) for name, action in actions.items() if action.choices is not None}
        told = read_options(path, kinds, choices, _HINT)
        defaults = {action.dest: told.get(name, action.default) for name, action in actions.items()}
        usual = {action.dest: action.default for action in actions.values()}
        for name, action in actions.items():
            # What the command line does not say is None then.
            action.default = None
            if name in told and action.required:
                action.required = False
                action.nargs = action.nargs if action.option_strings else "?"
        parsed, rest = super().parse_known_args(args, namespace)
        said = {name for name in usual if getattr(parsed, name) is not None}
        decided = {name for group in _SAME if said.intersection(group) for name in group}
        for name in usual.keys() - said:
            setattr(parsed, name, usual[name] if name in decided else defaults[name])
        return parsed, rest


def _name(action: argparse.Action) -> str:
    return max(action.option_strings, key=len, default=action.dest).removeprefix("--")


def _kind(action: argparse.Action) -> type[Any]:
    """Return what a file has to say for an argument: a text, whether something is so, or a list of texts."""
    if action.nargs == 0:
        return bool
    return list if isinstance(action.default, list) else str
