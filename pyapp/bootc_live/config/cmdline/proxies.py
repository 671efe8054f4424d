"""Which proxies to use, from kernel arguments and the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bootc_live.base.redact import redact_value
from bootc_live.config.model import Proxies

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SERVER = re.compile(r"(?:[^\s/?#@]*@)?(?:\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(?::[0-9]{1,5})?/?\Z")
_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def parse_proxy(text: str | None) -> str:
    """Read a proxy; gives a URL with ``http://`` or ``https://``, or ``""`` for none. Raises ValueError."""
    if not text:
        return ""
    scheme = _SCHEME.match(text)
    name = scheme[1].lower() if scheme else "http"
    if name.startswith("socks"):
        raise ValueError(f"names a SOCKS proxy ({name}://), which is not supported; use an http:// proxy")
    if name not in {"http", "https"}:
        raise ValueError(f"uses {name}://, which is no kind of proxy; write http://HOST:PORT")
    server = text[scheme.end() :] if scheme else text
    if _SERVER.match(server) is None:
        raise ValueError("does not name a proxy; write http://HOST:PORT, with %XX for odd characters in a password")
    return f"{name}://{server.rstrip('/')}"


def environment_values(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Give the proxies of the environment by lower-case name, and the mistakes among them.

    Where a variable is there in both cases, the lower one counts, as for curl.
    """
    values: dict[str, str] = {}
    mistakes = []
    for name in _NAMES:
        written = next((spelling for spelling in (name, name.upper()) if environ.get(spelling)), None)
        if written is None:
            continue
        text = environ[written]
        try:
            values[name] = text if name == "no_proxy" else parse_proxy(text)
        except ValueError as error:
            mistakes.append(f"the environment's '{redact_value(f'{written}={text}')}' {error}")
    return values, mistakes


def choose_proxies(cmdline: Mapping[str, str], environment: Mapping[str, str]) -> Proxies:
    """Give the proxies in force; an empty value on the command line takes one of the environment back."""

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
