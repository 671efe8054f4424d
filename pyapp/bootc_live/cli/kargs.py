"""``bootc-live kargs``: the kernel arguments, explained or checked."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import fields

from bootc_live.base.output import print_results
from bootc_live.base.redact import redact_value
from bootc_live.base.units import mib
from bootc_live.config.cmdline.page import markdown, plain
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.cmdline.tokens import redact_cmdline
from bootc_live.config.model import Backing, Config, Kexec, Mirror, Proxies, RetryLimits, WritableParts


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raises ConfigError for a command line with mistakes."""
    if arguments.markdown:
        print_results(markdown().splitlines())
    elif arguments.cmdline is not None:
        config = parse_cmdline(arguments.cmdline, os.environ)
        print_results([f"{field.name}: {_show(config, field.name)}" for field in fields(Config)])
    else:
        print_results(plain().splitlines())
    return 0


def _show(config: Config, name: str) -> object:
    shown: dict[str, Callable[[], str | None]] = {
        # URLs may hold secrets; what was typed is kept without them.
        "sources": lambda: ", ".join(spec.typed for spec in config.sources) or None,
        "retry": lambda: _retry(config.retry),
        "mirrors": lambda: _mirrors(config.mirrors),
        "proxies": lambda: _proxies(config.proxies),
        "backing": lambda: _backing(config.backing),
        "parts": lambda: _parts(config.parts),
        "kexec": lambda: _kexec(config.kexec),
    }
    return shown[name]() if name in shown else getattr(config, name)


def _retry(retry: RetryLimits) -> str:
    return f"{retry.tries} tries, {retry.stall:g} s without progress, {retry.total:g} s altogether"


def _mirrors(mirrors: tuple[Mirror, ...]) -> str | None:
    named = (f"{mirror.location} (insecure)" if mirror.insecure else mirror.location for mirror in mirrors)
    return ", ".join(named) or None


def _proxies(proxies: Proxies) -> str | None:
    used = {"http": proxies.http, "https": proxies.https, "not for": proxies.no_proxy}
    return ", ".join(f"{use} {redact_value(proxy)}" for use, proxy in used.items() if proxy) or None


def _backing(backing: Backing) -> str:
    zram = backing.zram
    if zram is None:
        kept = ["tmpfs", f"huge={backing.huge}" if backing.huge else "", f"mpol={backing.mpol}" if backing.mpol else ""]
    else:
        kept = [f"zram for {mib(zram.size)}", zram.algorithm, "" if zram.level is None else f"level {zram.level}"]
    kept.append("" if backing.size is None else f"{mib(backing.size)} at most")
    return ", ".join(part for part in kept if part)


def _parts(parts: WritableParts) -> str:
    sizes = {"/": parts.root_size, "/etc": parts.etc_size, "/var": parts.var_size}
    writable = {"/": parts.root, "/etc": parts.etc, "/var": parts.var}
    named = [f"{name} {'read-write' if wanted else 'read-only'}" for name, wanted in writable.items()]
    named += [f"{name} {mib(size)} at most" for name, size in sizes.items() if size is not None]
    named.append(f"on {parts.backing}")
    if parts.options:
        named.append(f"rootflags={parts.options}")
    if parts.state is not None:
        named.append(f"state on {parts.state}, {'required' if parts.state_required else 'if there'}")
    return ", ".join(named)


def _kexec(kexec: Kexec | None) -> str | None:
    if kexec is None:
        return None
    named = ["the image is handed over" if kexec.reuse else "the image is fetched again"]
    named += [f"append {redact_cmdline(text)}" for text in kexec.append]
    named += [f"remove {redact_cmdline(text)}" for text in kexec.remove]
    named.append("boot where it fails" if kexec.boot_on_failure else "stop where it fails")
    return ", ".join(named)
