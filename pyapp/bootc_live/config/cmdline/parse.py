"""Read and check a whole kernel command line against the table."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import cast

from bootc_live.base.errors import ConfigError
from bootc_live.base.redact import redact_value
from bootc_live.config.cmdline.kexec import appended, kexec_mixed_up, make_kexec
from bootc_live.config.cmdline.proxies import choose_proxies, environment_values, parse_proxy
from bootc_live.config.cmdline.root_in_ram import make_backing, make_parts, mixed_up, wanted_layout
from bootc_live.config.cmdline.table import BY_NAME, EITHER_CASE, OWN_PREFIXES, Karg, Kind
from bootc_live.config.cmdline.tokens import Token, split_cmdline
from bootc_live.config.cmdline.values import (
    parse_boolean,
    parse_choice,
    parse_device,
    parse_digest,
    parse_level,
    parse_mirror,
    parse_mpol,
    parse_number,
    parse_seconds,
    parse_sha256,
    parse_size,
    parse_text,
)
from bootc_live.config.model import Compression, Config, Mirror, RetryLimits
from bootc_live.config.source_spec import ROOT_PREFIX, RegistryImage, SourceSpec, parse_source

HINT = "correct the kernel command line; kernel-cmdline.md lists the arguments"

_PARSERS: dict[Kind, Callable[[str | None], object]] = {
    Kind.BOOLEAN: parse_boolean,
    Kind.TEXT: parse_text,
    Kind.SIZE: parse_size,
    Kind.NUMBER: parse_number,
    Kind.SECONDS: parse_seconds,
    Kind.DIGEST: parse_digest,
    Kind.MIRROR: parse_mirror,
    Kind.PROXY: parse_proxy,
    Kind.LEVEL: parse_level,
    Kind.SHA256: parse_sha256,
    Kind.BLOCK_DEVICE: parse_device,
    Kind.MPOL: parse_mpol,
}
# What others read, too: in capitals, it may be a variable of theirs.
_SHARED = frozenset({"root", "ro", "rw"})
# An empty value takes an earlier one back.
_MAY_BE_EMPTY = frozenset({"rootflags", "no_proxy"})


def parse_cmdline(text: str, environ: Mapping[str, str] | None = None) -> Config:
    """Give the Config of a kernel command line, without opening any file.

    ``environ`` is where proxies may stand too. The last of repeated arguments
    wins, except where the table says that every one counts; arguments of others
    are left alone. Raises one ConfigError that lists every mistake, without
    the secrets of URLs.
    """
    values, mistakes = _read(_counting(split_cmdline(text)))
    variables, wrong = environment_values(environ or {})
    mistakes += [*wrong, *_contradictions(values), *mixed_up(values), *kexec_mixed_up(values)]
    mistakes += [f"{mistake} (in bootc.kexec.append=)" for mistake in _read(appended(values))[1]]
    if mistakes:
        raise ConfigError("; ".join(mistakes), hint=HINT)
    return _config(values, {name: cast(str, many[-1]) for name, many in values.items() if _is_proxy(name)}, variables)


def _counting(tokens: list[Token]) -> list[Token]:
    """Leave out what a later argument of the same name replaces; each name stands where it stood first."""
    counting: dict[object, Token] = {}
    for number, token in enumerate(tokens):
        lower = token.name.lower()
        name = lower if lower in EITHER_CASE else token.name
        karg = BY_NAME.get(name)
        counting[number if karg is not None and karg.many else name] = Token(token.name, token.value)
    return list(counting.values())


def _read(tokens: list[Token]) -> tuple[dict[str, list[object]], list[str]]:
    """Give the values by the names of the table, none for an unreadable one, and the mistakes."""
    values: dict[str, list[object]] = {}
    mistakes: list[str] = []
    for token in tokens:
        lower = token.name.lower()
        karg = BY_NAME.get(lower if lower in EITHER_CASE else token.name)
        if karg is None:
            if lower.startswith(OWN_PREFIXES) or _meant(lower, token.value):
                mistakes.append(f"'{redact_value(str(token))}' is not a known argument{_nearest(lower)}")
            continue
        try:
            value = _parse_value(karg, token.value)
        except ValueError as error:
            mistakes.append(f"'{redact_value(str(token))}' {error}")
            values.setdefault(karg.name, [])
        else:
            if value is not None:
                values.setdefault(karg.name, []).append(value)
    return values, mistakes


def _parse_value(karg: Karg, text: str | None) -> object:
    """Give the value, or None for one that says nothing to us; raises ValueError."""
    if karg.name == "ro":
        return None
    if karg.name == "root":
        ours = text is not None and text.startswith(ROOT_PREFIX)
        return parse_source(str(text).removeprefix(ROOT_PREFIX)) if ours else None
    if karg.kind is Kind.SOURCE:
        return _parse_fallback(text)
    if karg.name in _MAY_BE_EMPTY:
        return text or ""
    return parse_choice(text, karg.choices) if karg.kind is Kind.CHOICE else _PARSERS[karg.kind](text)


def _parse_fallback(text: str | None) -> SourceSpec:
    if text is not None and text.startswith(ROOT_PREFIX):
        raise ValueError(f"must be written without '{ROOT_PREFIX}'")
    return parse_source(parse_text(text))


def _contradictions(values: Mapping[str, list[object]]) -> Iterator[str]:
    """Give the mistakes that only several arguments together make."""
    fallbacks = cast("list[SourceSpec]", values.get("bootc.live.fallback", []))
    if "root" not in values:
        for spec in fallbacks:
            yield f"'bootc.live.fallback={spec.typed}' needs a root=bootc-live:… to fall back from"
        return
    if "bootc.live.fallback" in values:
        return
    roots = cast("list[SourceSpec]", values["root"])
    for root, pin in zip(roots, values.get("bootc.live.digest", []), strict=False):
        digest = root.reference.partition("@")[2] if isinstance(root, RegistryImage) else ""
        # Digests of two algorithms may both be right.
        if digest and digest != pin and digest.partition(":")[0] == str(pin).partition(":")[0]:
            yield f"'bootc.live.digest={pin}' is not the digest that 'root={ROOT_PREFIX}{root.typed}' asks for"


def _config(values: Mapping[str, list[object]], proxies: Mapping[str, str], variables: Mapping[str, str]) -> Config:
    def last(name: str, default: object) -> object:
        return values.get(name, [default])[-1]

    limits = RetryLimits()
    label = last("bootclabel", None)
    pin = last("bootc.live.digest", None)
    sources = [*values.get("root", []), *values.get("bootc.live.fallback", [])]
    return Config(
        sources=tuple(cast("list[SourceSpec]", sources)),
        label=None if label is None else str(label),
        pin=None if pin is None else str(pin),
        registry_unsecure=bool(last("bootc.registry.unsecure", False)),
        retry=RetryLimits(
            tries=cast(int, last("bootc.live.retry.tries", limits.tries)),
            stall=cast(float, last("bootc.live.retry.stall", limits.stall)),
            total=cast(float, last("bootc.live.retry.total", limits.total)),
        ),
        mirrors=tuple(cast("list[Mirror]", values.get("bootc.registry.mirror", []))),
        proxies=choose_proxies(proxies, variables),
        layout=wanted_layout(values),
        compress=Compression(str(last("bootc.live.compress", Compression.NONE))),
        erofs_times=str(last("bootc.live.erofs.times", "epoch")),
        erofs_digest=cast("str | None", last("bootc.live.erofs.digest", None)),
        selinux=cast("bool | None", last("bootc.live.selinux", None)),
        backing=make_backing(values),
        parts=make_parts(values),
        kexec=make_kexec(values),
        modules_required=last("bootc.live.modules", "warn") == "required",
        quiet=bool(last("bootc.quiet", False)),
    )


def _meant(lower: str, value: str | None) -> bool:
    """Tell an argument that only capitals keep from being one of the table; some of those belong to others, too."""
    ours = lower in BY_NAME and lower not in _SHARED
    return ours or (lower == "root" and value is not None and value.startswith(ROOT_PREFIX))


def _is_proxy(name: str) -> bool:
    return name == "proxy" or name in EITHER_CASE


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, BY_NAME, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
