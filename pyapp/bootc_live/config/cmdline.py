"""Read and check a whole kernel command line against the table."""

from __future__ import annotations

import difflib

from bootc_live.base.errors import ConfigError
from bootc_live.config.model import Config
from bootc_live.config.source_spec import ROOT_PREFIX, SourceSpec, parse_source
from bootc_live.config.table import BY_NAME, MODIFIERS, OWN_PREFIXES, Karg, Kind
from bootc_live.config.tokens import Token, split_cmdline
from bootc_live.config.values import parse_boolean, parse_size, parse_text

HINT = "correct the kernel command line; kernel-cmdline.md lists the arguments"


def parse_cmdline(text: str) -> Config:
    """Give the Config of a kernel command line, without opening any file.

    The last of repeated arguments wins; arguments of others are left alone.
    Raises one ConfigError that lists every mistake.
    """
    seen: dict[str, object] = {}
    mistakes: list[str] = []
    source: SourceSpec | None = None
    last = {token.name: token for token in split_cmdline(text)}
    for token in last.values():
        karg = BY_NAME.get(token.name)
        if karg is None:
            if token.name.startswith(OWN_PREFIXES):
                mistakes.append(f"'{token}' is not a known argument{_nearest(token.name)}")
            continue
        try:
            if karg.kind is Kind.SOURCE:
                source = _parse_root(token)
            elif karg.name != "ro":
                seen[karg.name] = _parse_value(karg, token)
        except ValueError as error:
            mistakes.append(f"'{token}' {error}")
    if mistakes:
        raise ConfigError("; ".join(mistakes), hint=HINT)
    return Config(
        source=source,
        label=_text(seen.get("bootclabel")),
        registry_unsecure=bool(seen.get("bootc.registry.unsecure", False)),
        root_rw=bool(seen.get("rw", False)),
        etc_rw=bool(seen.get("bootc.live.etc.rw", True)),
        var_rw=bool(seen.get("bootc.live.var.rw", True)),
        rootflags=str(seen.get("rootflags", "")),
        quiet=bool(seen.get("bootc.quiet", False)),
    )


def _parse_root(token: Token) -> SourceSpec | None:
    if token.value is None or not token.value.startswith(ROOT_PREFIX):
        return None
    return parse_source(token.value.removeprefix(ROOT_PREFIX))


def _parse_value(karg: Karg, token: Token) -> object:
    value: object
    if karg.kind is Kind.BOOLEAN:
        value = parse_boolean(token.value)
    elif karg.kind is Kind.SIZE:
        value = parse_size(token.value)
    elif karg.name == "rootflags":
        value = token.value or ""
    else:
        value = parse_text(token.value)
    # Asking for what is not there must not pass in silence; switching it off may.
    if not karg.built and value is not False and karg.name not in MODIFIERS:
        raise ValueError("asks for a feature that this version does not have yet; remove the argument")
    return value


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, BY_NAME, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _text(value: object) -> str | None:
    return None if value is None else str(value)
