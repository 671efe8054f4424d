"""``bootc-live kargs``: the kernel arguments, explained or checked."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields

from bootc_live.base.redact import redact
from bootc_live.config.cmdline import parse_cmdline
from bootc_live.config.document import markdown, plain
from bootc_live.config.model import Config


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raises ConfigError for a command line with mistakes."""
    if arguments.markdown:
        print(markdown(), end="")
    elif arguments.cmdline is not None:
        config = parse_cmdline(arguments.cmdline, os.environ)
        print("\n".join(f"{field.name}: {_show(config, field.name)}" for field in fields(Config)))
    else:
        print(plain())
    return 0


def _show(config: Config, name: str) -> object:
    if name == "sources":
        # URLs may hold secrets; what was typed is kept without them.
        return ", ".join(spec.typed for spec in config.sources) or None
    if name == "retry":
        retry = config.retry
        return f"{retry.tries} tries, {retry.stall:g} s without progress, {retry.total:g} s altogether"
    if name == "mirrors":
        return (
            ", ".join(
                f"{mirror.location} (insecure)" if mirror.insecure else mirror.location for mirror in config.mirrors
            )
            or None
        )
    if name == "proxies":
        proxies = {"http": config.proxies.http, "https": config.proxies.https, "not for": config.proxies.no_proxy}
        return ", ".join(f"{use} {redact(proxy)}" for use, proxy in proxies.items() if proxy) or None
    return getattr(config, name)
