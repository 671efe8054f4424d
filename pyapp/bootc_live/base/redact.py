"""Hide the secrets that people and servers write into URLs, before a text is shown or kept."""

from __future__ import annotations

import re

HIDDEN = "***"

# What follows the "@" of an image reference with a digest: that is no host.
_NO_DIGEST = r"(?!sha[0-9]+:)"
# A "port" that is no number is a password with an unescaped "/", "?" or space in it.
_ODD_USERINFO = re.compile(r"(://)[^\s/?#@'\"\[\]:]*:(?![0-9]*(?:[/?#\s'\",;)]|\Z))(?:(?!://)[^'\"\n])*@" + _NO_DIGEST)
_USERINFO = re.compile(r"(://)[^\s/?#'\"]*@" + _NO_DIGEST)
_BARE_USERINFO = re.compile(
    r"(?:(?<=bootc-live:)|(?<![^\s='\"(,]))(?!bootc-live:)[^\s:/@'\"=]+:(?!/)[^\s@'\"]*@" + _NO_DIGEST
)
_QUERY = re.compile(r"(://[^\s?'\"]*\?)[^\s'\"]+")
# Without a scheme in front it may be part of a sentence or of a file's name.
_BARE_QUERY = re.compile(r"\?[^\s?'\"=]*=[^\s'\"]*")


def redact(text: str) -> str:
    """Give a text with ``***`` for the userinfo and the query of every URL in it (RFC 3986).

    ``user:password@host:port`` without a scheme, as proxies are written, counts
    too. References such as ``os:tag@sha256:…`` stay as they are. Giving the
    result back changes nothing.
    """
    text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    text = _ODD_USERINFO.sub(rf"\1{HIDDEN}@", text)
    text = _BARE_USERINFO.sub(f"{HIDDEN}@", text)
    text = _QUERY.sub(rf"\1{HIDDEN}", text)
    return _BARE_QUERY.sub(f"?{HIDDEN}", text)
