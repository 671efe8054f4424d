"""``bootc-live kargs``: the kernel arguments, explained or checked."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from bootc_live.base.output import print_results
from bootc_live.base.redact import redact_value
from bootc_live.config.cmdline.page import markdown, plain
from bootc_live.config.cmdline.parse import effective_arguments, find_karg, parse_cmdline
from bootc_live.config.cmdline.table import KARGS


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise ConfigError for a command line with mistakes."""
    if arguments.markdown:
        print_results(markdown().splitlines())
    elif arguments.cmdline is not None:
        print_results(list(_checked(arguments.cmdline, defaults=arguments.defaults)))
    else:
        print_results(plain().splitlines())
    return 0


def _checked(text: str, *, defaults: bool) -> Iterator[str]:
    """Yield a line for each argument that counts, and for the defaults of the others on request."""
    config = parse_cmdline(text)
    tokens = [(token, find_karg(token)) for token in effective_arguments(text)]
    yield from (f"set       {redact_value(str(token))}" for token, karg in tokens if karg is not None)
    if defaults:
        given = {karg.name for _, karg in tokens if karg is not None}
        others = [karg for karg in KARGS if karg.default and karg.name not in given]
        yield from (f"default   {karg.name}={karg.default}" for karg in others)
    yield from (f"not ours  {redact_value(str(token))}" for token, karg in tokens if karg is None)
    if not config.sources:
        yield "result    there is no root=bootc-live:…, so bootc-live does nothing"
