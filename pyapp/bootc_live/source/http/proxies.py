"""Which proxy a request goes by, and how we show ourselves to it."""

from __future__ import annotations

import base64
import ipaddress
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from bootc_live.base.numbers import decimal
from bootc_live.config.model import Proxies


def proxy_for(url: str, proxies: Proxies) -> str | None:
    """Return the proxy's URL for a URL, or None.

    ``no_proxy`` is a list of names (with all below them), addresses and networks, each with a port if it should, or
    ``*``, as curl reads it. The environment, which requests would change for a moment, is left alone: threads share it.
    """
    parts = urlsplit(url)
    chosen = proxies.https if parts.scheme == "https" else proxies.http
    if not chosen or not parts.hostname:
        return None
    entries = [entry.strip().lower() for entry in proxies.no_proxy.replace(",", " ").split()]
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return None if any(_matches(entry, parts.hostname, port) for entry in entries) else chosen


def shown_proxy(url: str) -> str:
    """Return a proxy's ``host:port``, which is all of its URL that may be shown."""
    return urlsplit(url).netloc.rpartition("@")[2]


def basic_login(url: str) -> str | None:
    """Return the Authorization header's value for user and password in a URL, as UTF-8 (RFC 7617); None without."""
    parts = urlsplit(url)
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return f"Basic {base64.b64encode(pair).decode('ascii')}"


def without_login(url: str) -> str:
    """Return a URL without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    name, colon, number = entry.rpartition(":")
    if colon:
        with suppress(ValueError):
            return decimal(number, limit=65535) == port and _matches(name, host, port)
    name = entry.removeprefix("*").removeprefix(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))
