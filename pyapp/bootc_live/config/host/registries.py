"""Read a registries file: YAML with the keys of containers-registries.conf(5).

Only this module imports yaml, and it is imported only if such a file exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeVar

import yaml

from bootc_live.base.errors import ConfigError
from bootc_live.base.redact import redact
from bootc_live.config.host.routes import RegistryRules, Rule
from bootc_live.config.model import Mirror
from bootc_live.formats.oci.reference import HOST, PATH

_LOCATION = re.compile(HOST + PATH)
_PREFIX = re.compile(rf"(?:\*\.)?{HOST}{PATH}")
_TOKEN_SERVICE = re.compile(rf"https?://{HOST}(?:/[^\s?#]*)?")
_RULE_KEYS = ("prefix", "location", "insecure", "blocked", "mirrors", "token-service")
_MIRROR_KEYS = ("location", "insecure", "pull-from-mirror", "token-service")
_PULLS = ("all", "digest-only", "tag-only")
_HINT = "correct that file; docs/fleets.md shows its format"

_TYPES = {str: "a string", bool: "true or false"}
_Kind = TypeVar("_Kind", str, bool)


def parse_rules(text: str | bytes, origin: str) -> RegistryRules:
    """Return the rules in the registries file ``origin``; raise one ConfigError that lists all mistakes."""
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{origin!r} is not YAML: {_problem(error)}", hint=_HINT) from error
    reader = _Reader(origin)
    rules = reader.rules(data)
    if reader.mistakes:
        raise ConfigError(f"{origin!r} cannot be used: " + "; ".join(reader.mistakes), hint=_HINT)
    return RegistryRules(tuple(rules))


class _Reader:
    """Converts the parsed YAML to rules and collects the mistakes in it."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self.mistakes: list[str] = []

    def rules(self, data: object) -> list[Rule]:
        if data is None:
            return []
        top = self._mapping(data, "the file", ("registries",)) or {}
        rules = [
            rule
            for number, entry in enumerate(self._list(top, "registries", "the file"), 1)
            if (rule := self._rule(entry, f"registry {number}")) is not None
        ]
        seen: set[str] = set()
        for number, rule in enumerate(rules, 1):
            if rule.prefix in seen:
                self.mistakes.append(f"registry {number} repeats the prefix {rule.prefix!r} of an earlier one")
            seen.add(rule.prefix)
        return rules

    def _rule(self, data: object, where: str) -> Rule | None:
        entry = self._mapping(data, where, _RULE_KEYS)
        if entry is None:
            return None
        location = self._location(entry, "location", where, _LOCATION)
        prefix = self._location(entry, "prefix", where, _PREFIX) or location
        if not {"prefix", "location"} & entry.keys():
            self.mistakes.append(f"{where} has neither a prefix nor a location")
        rule = Rule(
            prefix=prefix or "",
            location=location,
            insecure=self._value(entry, "insecure", where, bool) or False,
            blocked=self._value(entry, "blocked", where, bool) or False,
            mirrors=tuple(self._mirrors(entry, where)),
            origin=self._origin,
            token_service=self._token_service(entry, where),
        )
        return rule if prefix else None

    def _mirrors(self, entry: dict[object, object], where: str) -> Iterator[Mirror]:
        for number, data in enumerate(self._list(entry, "mirrors", where), 1):
            inner = f"{where}, mirror {number}"
            mirror = self._mapping(data, inner, _MIRROR_KEYS)
            if mirror is None:
                continue
            location = self._location(mirror, "location", inner, _LOCATION)
            insecure = self._value(mirror, "insecure", inner, bool) or False
            # Without TLS, a mirror serves tags only if the file allows it explicitly.
            pull = self._value(mirror, "pull-from-mirror", inner, str) or ("digest-only" if insecure else "all")
            if pull not in _PULLS:
                self.mistakes.append(f"{inner}: pull-from-mirror is not one of {', '.join(_PULLS)}")
            if location is not None:
                yield Mirror(location, insecure, pull, self._token_service(mirror, inner))
            elif "location" not in mirror:
                self.mistakes.append(f"{inner} has no location")

    def _mapping(self, data: object, where: str, known: tuple[str, ...]) -> dict[object, object] | None:
        if not isinstance(data, dict):
            self.mistakes.append(f"{where} is not a mapping with {', '.join(known)}")
            return None
        for key in data:
            if key not in known:
                self.mistakes.append(f"{where} has the unknown key {redact(str(key))!r} (known: {', '.join(known)})")
        return data

    def _list(self, entry: dict[object, object], key: str, where: str) -> list[object]:
        value = entry.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.mistakes.append(f"{where}: {key} is not a list")
            return []
        return value

    def _value(self, entry: dict[object, object], key: str, where: str, kind: type[_Kind]) -> _Kind | None:
        value = entry.get(key)
        if value is None or isinstance(value, kind):
            return value
        self.mistakes.append(f"{where}: {key} is not {_TYPES[kind]}")
        return None

    def _token_service(self, entry: dict[object, object], where: str) -> str | None:
        text = self._value(entry, "token-service", where, str)
        if text is not None and _TOKEN_SERVICE.fullmatch(text) is None:
            self.mistakes.append(f"{where}: token-service {redact(text)!r} is not https://HOST[:PORT][/PATH]")
        return text

    def _location(self, entry: dict[object, object], key: str, where: str, form: re.Pattern[str]) -> str | None:
        text = self._value(entry, key, where, str)
        if text is None:
            if key in entry and entry[key] is None:
                self.mistakes.append(f"{where}: {key} is empty")
            return None
        if "://" in text:
            self.mistakes.append(
                f"{where}: {key} {redact(text)!r} must not start with {text.partition('://')[0]}:// "
                "(insecure: true allows plain HTTP)"
            )
            return None
        if form.fullmatch(text.removesuffix("/")) is None:
            self.mistakes.append(f"{where}: {key} {redact(text)!r} is not HOST[:PORT][/PATH]")
            return None
        return text.removesuffix("/")


def _problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return redact(str(error)).partition("\n")[0]
