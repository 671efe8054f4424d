"""Choose the proxy of a request, and handle logins in URLs."""

from __future__ import annotations

import base64
import ipaddress
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from bootc_live.base.numbers import decimal
from bootc_live.config.model import Proxies


def proxy_for(url: str, proxies: Proxies) -> str | None:
    """Return the URL of the proxy for a URL, or None.

    As in curl, ``no_proxy`` lists names (which include their subdomains), addresses and networks, each with an
    optional port, or ``*``. The environment is not used: requests would modify it, and threads share it.
    """
    parts = urlsplit(url)
    chosen = proxies.https if parts.scheme == "https" else proxies.http
    if not chosen or not parts.hostname:
        return None
    entries = [entry.strip().lower() for entry in proxies.no_proxy.replace(",", " ").split()]
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return None if any(_matches(entry, parts.hostname, port) for entry in entries) else chosen


def host_of(url: str) -> str:
    """Return ``host[:port]`` of a URL, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def basic_header(username: str, password: str) -> str:
    """Return the value of an Authorization header (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode('ascii')}"


def basic_login(url: str) -> str | None:
    """Return the value of an Authorization header for user and password in a URL, or None without them."""
    parts = urlsplit(url)
    return None if parts.username is None else basic_header(unquote(parts.username), unquote(parts.password or ""))


def without_login(url: str) -> str:
    """Return a URL without user and password."""
    return urlsplit(url)._replace(netloc=host_of(url)).geturl()


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
