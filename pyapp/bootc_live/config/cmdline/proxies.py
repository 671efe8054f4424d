"""Choose the proxies from kernel arguments and environment variables."""

from __future__ import annotations

from collections.abc import Mapping

from bootc_live.base.redact import redact_value
from bootc_live.config.cmdline.values import parse_proxy
from bootc_live.config.model import Proxies

_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def environment_values(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the proxies of the environment by their lower-case names, and the mistakes in them.

    The lower-case variable has precedence, as in curl.
    """
    values: dict[str, str] = {}
    mistakes = []
    for name in _NAMES:
        variable = next((spelling for spelling in (name, name.upper()) if environ.get(spelling)), None)
        if variable is None:
            continue
        text = environ[variable]
        try:
            values[name] = text if name == "no_proxy" else parse_proxy(text)
        except ValueError as error:
            mistakes.append(f"the environment variable '{redact_value(f'{variable}={text}')}' {error}")
    return values, mistakes


def choose_proxies(cmdline: Mapping[str, str], environment: Mapping[str, str]) -> Proxies:
    """Return the proxies to use; an empty value on the command line overrides the environment."""

    def first(*names: str) -> str | None:
        for values in (cmdline, environment):
            for name in names:
                if name in values:
                    return values[name] or None
        return None

    return Proxies(
        http=first("http_proxy", "proxy", "all_proxy"),
        https=first("https_proxy", "proxy", "all_proxy"),
        no_proxy=first("no_proxy") or "",
    )
