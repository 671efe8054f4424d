"""Parse a kernel command line by the table of arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from bootc_live.base.errors import ConfigError
from bootc_live.base.redact import redact_value
from bootc_live.config.cmdline.contradictions import find_contradictions
from bootc_live.config.cmdline.karg import Karg, Kind
from bootc_live.config.cmdline.proxies import choose_proxies, environment_values
from bootc_live.config.cmdline.table import BY_NAME, EITHER_CASE, OWN_PREFIXES, is_about_kexec
from bootc_live.config.cmdline.tokens import Token, split_cmdline
from bootc_live.config.cmdline.values import Values, last, parse_choice, parse_value
from bootc_live.config.model import (
    Backing,
    Compression,
    Config,
    DiskState,
    InstallWish,
    Kexec,
    Layout,
    Measure,
    Mirror,
    Require,
    RetryLimits,
    TrustConfig,
    WritableParts,
    Zram,
)
from bootc_live.config.source_spec import ROOT_PREFIX, DeploymentRoot, SourceSpec, parse_root, parse_source

HINT = "correct the kernel command line; kernel-cmdline.md lists the arguments"

# Names that other programs use, too: written in capitals, they may be variables of those.
_SHARED = frozenset({"root", "ro", "rw"})
# An empty value overrides an earlier one.
_MAY_BE_EMPTY = frozenset({"rootflags", "no_proxy"})


def parse_cmdline(text: str, environ: Mapping[str, str] | None = None) -> Config:
    """Return the settings of a kernel command line, without opening any file.

    ``environ`` may contain proxies. The last of repeated arguments has precedence, unless the table marks them as
    repeatable; arguments of other programs are ignored. Raise one ConfigError that lists all mistakes, without the
    secrets of URLs.
    """
    values, mistakes = _read(effective_arguments(text))
    variables, wrong = environment_values(environ or {})
    mistakes += [*wrong, *find_contradictions(values)]
    mistakes += [f"{mistake} (in bootc.kexec.append=)" for mistake in _read(_appended(values))[1]]
    if mistakes:
        raise ConfigError("; ".join(mistakes), hint=HINT)
    return _config(values, {name: cast(str, many[-1]) for name, many in values.items() if _is_proxy(name)}, variables)


def effective_arguments(text: str) -> list[Token]:
    """Return the arguments of a command line without those that a later one replaces; a name keeps its position."""
    counting: dict[object, Token] = {}
    for number, token in enumerate(split_cmdline(text)):
        karg = find_karg(token)
        lower = token.name.lower()
        name = lower if lower in EITHER_CASE else token.name
        counting[number if karg is not None and karg.many else name] = Token(token.name, token.value)
    return list(counting.values())


def find_karg(token: Token) -> Karg | None:
    """Return the row of the table for an argument, None if it is not one of ours: a root= of another kind is not."""
    lower = token.name.lower()
    if lower == "root" and not (token.value or "").startswith(ROOT_PREFIX):
        return None
    return BY_NAME.get(lower if lower in EITHER_CASE else token.name)


def _appended(values: Values) -> list[Token]:
    texts = cast("list[str]", values.get("bootc.kexec.append", []))
    return [token for text in texts for token in split_cmdline(text) if not is_about_kexec(token.name)]


def _read(tokens: list[Token]) -> tuple[dict[str, list[object]], list[str]]:
    """Return the values by the names in the table (an empty list for an invalid one), and the mistakes."""
    values: dict[str, list[object]] = {}
    mistakes: list[str] = []
    for token in tokens:
        lower, karg = token.name.lower(), find_karg(token)
        if karg is None:
            if lower.startswith(OWN_PREFIXES) or _differs_in_case(lower, token.value):
                mistakes.append(f"'{redact_value(str(token))}' is not a known argument{_nearest(lower)}")
            continue
        try:
            value = _parse(karg, token.value)
        except ValueError as error:
            mistakes.append(f"'{redact_value(str(token))}' {error}")
            values.setdefault(karg.name, [])
        else:
            if value is not None:
                values.setdefault(karg.name, []).append(value)
    return values, mistakes


def _parse(karg: Karg, text: str | None) -> object:
    """Return the value, or None to ignore the argument; raise ValueError."""
    if karg.name == "ro":
        return None
    if karg.name == "root":
        return parse_root(str(text).removeprefix(ROOT_PREFIX))
    if karg.kind is Kind.SOURCE:
        if text is not None and text.startswith(ROOT_PREFIX):
            raise ValueError(f"must be written without '{ROOT_PREFIX}'")
        return parse_source(str(parse_value(Kind.TEXT, text)))
    if karg.kind is Kind.CHOICE:
        return parse_choice(text, karg.choices)
    return text or "" if karg.name in _MAY_BE_EMPTY else parse_value(karg.kind, text)


def _config(values: Values, proxies: Mapping[str, str], variables: Mapping[str, str]) -> Config:
    limits = RetryLimits()
    layout = "erofs" if last(values, "bootc.live.erofs", default=False) else last(values, "bootc.live.layout", "index")
    root = last(values, "root", cast("SourceSpec | DeploymentRoot | None", None))
    deployment = root if isinstance(root, DeploymentRoot) else None
    sources = [*([] if root is None or deployment else [root]), *values.get("bootc.live.fallback", [])]
    return Config(
        sources=tuple(cast("list[SourceSpec]", sources)),
        deployment=deployment,
        disk_state=DiskState(last(values, "bootc.disk.state", "full")),
        disk_verity=last(values, "bootc.disk.verity", default=True),
        disk_subvolume=last(values, "bootc.disk.subvolume", None),
        install=_install(values),
        label=last(values, "bootclabel", None),
        pin=last(values, "bootc.live.digest", None),
        registry_unsecure=last(values, "bootc.registry.unsecure", default=False),
        trust=TrustConfig(
            policy=last(values, "bootc.trust.policy", None),
            keys=tuple(cast("list[str]", values.get("bootc.trust.key", []))),
            threshold=last(values, "bootc.trust.threshold", 1),
            insecure=last(values, "bootc.trust.insecure", default=False),
            require=Require(last(values, "bootc.trust.require", "none")),
            not_before=last(values, "bootc.trust.notbefore", None),
            measure=Measure(last(values, "bootc.trust.measure", "auto")),
        ),
        retry=RetryLimits(
            tries=last(values, "bootc.live.retry.tries", limits.tries),
            stall=last(values, "bootc.live.retry.stall", limits.stall),
            total=last(values, "bootc.live.retry.total", limits.total),
        ),
        mirrors=tuple(cast("list[Mirror]", values.get("bootc.registry.mirror", []))),
        proxies=choose_proxies(proxies, variables),
        layout=Layout(layout),
        compress=Compression(last(values, "bootc.live.compress", "none")),
        erofs_times=last(values, "bootc.live.erofs.times", "epoch"),
        erofs_digest=last(values, "bootc.live.erofs.digest", None),
        verity=last(values, "bootc.live.verity", default=False) or "bootc.live.verity.roothash" in values,
        root_hash=last(values, "bootc.live.verity.roothash", None),
        selinux=last(values, "bootc.live.selinux", None),
        backing=_backing(values),
        parts=_parts(values),
        kexec=_kexec(values),
        modules_required=last(values, "bootc.live.modules", "warn") == "required",
        quiet=last(values, "bootc.quiet", default=False),
    )


def _install(values: Values) -> InstallWish | None:
    disk = last(values, "bootc.install", cast("str | None", None))
    if disk is None:
        return None
    return InstallWish(
        disk,
        wipe=last(values, "bootc.install.wipe", default=False),
        arguments=tuple(cast("list[str]", values.get("bootc.install.karg", []))),
        bootloader=last(values, "bootc.install.bootloader", "systemd.boot").replace(".", "-"),
        storage=last(values, "bootc.install.storage", "composefs"),
        slot_size=last(values, "bootc.install.slot.size", None),
        filesystem=last(values, "bootc.install.filesystem", "ext4"),
        xbootldr=last(values, "bootc.install.xbootldr", None),
        state=DiskState(last(values, "bootc.install.state", "full")),
        hostname=last(values, "bootc.install.hostname", None),
        auto_update=last(values, "bootc.install.autoupdate", default=False),
        success_units=tuple(cast("list[str]", values.get("bootc.install.success.unit", []))),
        secure_boot=last(values, "bootc.install.secureboot", default=False),
        nvram=last(values, "bootc.install.nvram", default=True),
    )


def _backing(values: Values) -> Backing:
    size = last(values, "bootc.zram", cast("int | None", None))
    algorithm, level = _compression(values)
    return Backing(
        size=last(values, "bootc.live.size", None),
        huge=last(values, "bootc.live.huge", "").replace(".", "_"),
        mpol=last(values, "bootc.live.mpol", ""),
        zram=None if size is None else Zram(size, algorithm, level),
    )


def _parts(values: Values) -> WritableParts:
    algorithm, level = _compression(values)
    return WritableParts(
        root=last(values, "rw", default=False),
        etc=last(values, "bootc.live.etc.rw", default=True),
        var=last(values, "bootc.live.var.rw", default=True),
        root_size=last(values, "bootc.live.root.size", None),
        etc_size=last(values, "bootc.live.etc.size", None),
        var_size=last(values, "bootc.live.var.size", None),
        backing=last(values, "bootc.live.writable", "tmpfs"),
        options=last(values, "rootflags", ""),
        state=last(values, "bootc.live.state", None),
        state_required=last(values, "bootc.live.state.required", default=False),
        zram_algorithm=algorithm,
        zram_level=level,
    )


def _compression(values: Values) -> tuple[str, int | None]:
    return last(values, "bootc.zram.algorithm", ""), last(values, "bootc.zram.level", None)


def _kexec(values: Values) -> Kexec | None:
    if not last(values, "bootc.kexec", default=False):
        return None
    return Kexec(
        reuse=last(values, "bootc.kexec.reuse-image", default=True),
        append=tuple(cast("list[str]", values.get("bootc.kexec.append", []))),
        remove=tuple(cast("list[str]", values.get("bootc.kexec.remove", []))),
        boot_on_failure=last(values, "bootc.kexec.onfail", "stop") == "boot",
    )


def _differs_in_case(lower: str, value: str | None) -> bool:
    """Return whether only capitals distinguish an argument from one of ours."""
    ours = lower in BY_NAME and lower not in _SHARED
    return ours or (lower == "root" and value is not None and value.startswith(ROOT_PREFIX))


def _is_proxy(name: str) -> bool:
    return name == "proxy" or name in EITHER_CASE


def _nearest(name: str) -> str:
    # A late import: few command lines are wrong.
    import difflib

    near = difflib.get_close_matches(name, BY_NAME, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
