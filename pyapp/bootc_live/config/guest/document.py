"""Read a YAML document by its nodes, which know their lines, and collect everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, TypeVar

import yaml
from yaml.reader import ReaderError

from bootc_live.base.numbers import decimal
from bootc_live.base.output import one_line

Value = TypeVar("Value")

_TAG = "tag:yaml.org,2002:"
_KINDS = {
    "str": "a text",
    "int": "a number",
    "bool": "true or false",
    "null": "empty",
    "float": "a number with a point",
    "timestamp": "a date",
    "seq": "a list",
    "map": "a mapping",
}
_LARGEST = 2**32 - 1
_QUOTES = "write it in quotes"
_SHAPES: Final[dict[type[yaml.Node], str]] = {yaml.SequenceNode: "seq", yaml.MappingNode: "map"}
_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
# A few aliases of aliases would make millions of values.
_MOST_VALUES = 100_000
_LONGEST_MISTAKE = 300


class TooManyValuesError(Exception):
    """A document has more values than anybody writes; this is among its mistakes."""


class Document:
    """A document that is read, and its mistakes: each a line number, counted from 1, and a sentence."""

    def __init__(self) -> None:
        """Begin without mistakes."""
        self.mistakes: list[tuple[int, str]] = []
        self._values = 0

    def compose(self, text: str) -> yaml.Node | None:
        """Return the top node of a text with one document; None if it has no node, or is not YAML."""
        try:
            node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            said = " ".join(filter(None, (error.context, error.problem)))
            self.mistakes.append((mark.line + 1 if mark else 1, f"this is not YAML: {' '.join(said.split())}"))
        except ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self.mistakes.append(
                (line, f"this is not YAML: {text[error.position]!r} is not allowed, only as an escape")
            )
        except RecursionError:
            self.mistakes.append((1, "this is not YAML for a guest: lists and mappings are nested too deeply"))
        except (yaml.YAMLError, ValueError) as error:
            self.mistakes.append((1, f"this is not YAML: {' '.join(str(error).split())}"))
        else:
            return node
        return None

    def wrong(self, node: yaml.Node, key: str, sentence: str) -> None:
        """Add a mistake; ``key`` is the full name of what is wrong."""
        self.mistakes.append((node.start_mark.line + 1, one_line(f"{key} {sentence}", _LONGEST_MISTAKE)))

    def of_kind(self, node: yaml.Node, kinds: Mapping[str, Callable[[yaml.Node], Value]], key: str) -> Value | None:
        """Return what the function for the node's kind makes of it; None, with a mistake, for other kinds.

        Kinds are those of YAML: str, int, bool, null, seq, map. Raises TooManyValuesError.
        """
        self._values += 1
        if self._values > _MOST_VALUES:
            self.wrong(node, key, f"is where the file has more than {_MOST_VALUES} values, counting each alias")
            raise TooManyValuesError
        kind = self.kind(node)
        if kind in kinds:
            return kinds[kind](node)
        wanted = [_KINDS[each] for each in kinds if each != "null"]
        listed = ", ".join(wanted[:-1]) + " or " + wanted[-1] if len(wanted) > 1 else wanted[0]
        hint = f"; {_QUOTES}" if "str" in kinds and kind in ("int", "bool", "float", "timestamp") else ""
        said = f"is {_KINDS[kind]}," if kind in _KINDS else f"has the tag {str(node.tag).replace(_TAG, '!!')}, and is"
        self.wrong(node, key, f"{said} not {listed}{hint}")
        return None

    @staticmethod
    def kind(node: yaml.Node) -> str:
        """Return the kind of a node, such as str; its tag where somebody has written one that does not fit."""
        tag, shape = str(node.tag), _SHAPES.get(type(node))
        kind = tag.removeprefix(_TAG)
        fits = kind == shape if shape else kind not in _SHAPES.values()
        return kind if fits else tag

    def entries(self, node: yaml.Node, known: tuple[str, ...], key: str = "") -> dict[str, yaml.Node]:
        """Return the values of a mapping by their keys, those in ``known``; other and repeated keys are mistakes."""
        found: dict[str, yaml.Node] = {}
        for name, value in node.value:
            full = self.name(key, str(name.value) if isinstance(name, yaml.ScalarNode) else "a key")
            if not isinstance(name, yaml.ScalarNode) or name.value not in known:
                self.wrong(name, full, f"is unknown; known here: {', '.join(known)}")
            elif name.value in found:
                self.wrong(name, full, f"is written twice, first on line {found[name.value].start_mark.line + 1}")
            else:
                found[name.value] = value
        return found

    @staticmethod
    def name(key: str, inner: str) -> str:
        """Return the full name of a key in a mapping."""
        return f"{key}.{inner}" if key else inner

    def text(self, node: yaml.Node, key: str) -> str | None:
        """Return a text, which the kernel can take as an argument; None, with a mistake, for all else."""
        return self.of_kind(node, {"str": lambda scalar: self._plain(scalar, key)}, key)

    def _plain(self, node: yaml.Node, key: str) -> str | None:
        text = str(node.value)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.wrong(node, key, "has a character that is none")
            return None
        if "\0" in text:
            self.wrong(node, key, "has a NUL character")
            return None
        return text

    def flag(self, node: yaml.Node, key: str) -> bool:
        """Return whether something is so."""

        def truth(scalar: yaml.Node) -> bool:
            # Such as !!bool maybe.
            if scalar.value.lower() not in _TRUTHS:
                self.wrong(scalar, key, f"is {scalar.value!r}, not true or false")
            return _TRUTHS.get(scalar.value.lower(), False)

        return bool(self.of_kind(node, {"bool": truth}, key))

    def number(self, node: yaml.Node, key: str) -> int | None:
        """Return a number from 0 to 4294967295, in decimal digits."""
        return self.of_kind(node, {"int": lambda scalar: self.digits(scalar, str(scalar.value), key)}, key)

    def digits(self, node: yaml.Node, text: str, key: str) -> int | None:
        """Return the number that a text is; None, with a mistake, if it is none."""
        # YAML reads a leading zero as octal.
        if text == "0" or not text.startswith("0"):
            with suppress(ValueError):
                return decimal(text, limit=_LARGEST)
        self.wrong(node, key, f"is {text!r}, not a number from 0 to 4294967295 in decimal digits")
        return None

    def choice(self, node: yaml.Node, choices: tuple[str, ...], key: str) -> str | None:
        """Return one of several words."""
        text = self.text(node, key)
        if text is not None and text not in choices:
            self.wrong(node, key, f"is {text!r}, not one of {', '.join(choices)}")
            return None
        return text
