"""Replace secrets in URLs and options before a text is printed or stored.

A URL with a login that is not valid by RFC 3986 is hidden completely. Every step has linear time, because servers
choose some of the texts.
"""

from __future__ import annotations

import re

HIDDEN = "***"

_SCHEME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-")
# A torrent URL may contain another URL: torrent://https://…
_INNER_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}://")
_AUTHORITY = re.compile(r"[^/?#]*")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*)(?::[0-9]{0,5})?")
_PATH = re.compile(r"[^?#;]*")
# Follows the "@" of an image reference; it is not a host.
_DIGEST = re.compile(r"sha[0-9]+:[0-9a-f]*")
# A root on a disk looks like a login.
_DEPLOYMENT = re.compile(r"deployment:(?:PART)?UUID=[0-9A-Fa-f-]+:[0-9]+@[0-9a-f]{64}")
# Prefixes of a value: the name of an argument, and the beginning of a source.
_LEAD = re.compile(r"(?:([A-Za-z0-9_.-]+)=)?[\"']?(?:bootc-live:)?(?:nfs4?:)?", re.IGNORECASE)
# A scheme with too few slashes, or none.
_SHORT_SCHEME = re.compile(r"(?:(?:docker|torrent|socks[45][ah]?|https?|t?ftps?):/?|/)/", re.IGNORECASE)
_OPTION = re.compile(
    r"(?<![A-Za-z])(?:pass(?:word|wd|phrase)?|pwd|psk|secret|token|auth|sig(?:nature)?|credential(?:s|_binary)?"
    r"|(?:api|access)[_-]?key)=",
    re.IGNORECASE,
)
# The word before a token in a header (RFC 7235). Words shorter than a token are plain English.
_HEADERS = frozenset({"bearer", "basic"})
_SHORTEST_TOKEN = 16
_OPENING, _CLOSING = "'\"(<{,", "'\"),;:.>}"
_SPACES = re.compile(r"(\s+)")


def redact(text: str) -> str:
    """Replace the secrets of every URL, proxy and option in a text by ``***``; words end at white space.

    Secrets are userinfo, query, parameters and fragment of URLs, and ``user:password@host:port`` without a scheme.
    References such as ``os:tag@sha256:…`` do not change. Applying it again changes nothing.
    """
    pieces = _SPACES.split(text)
    for number in range(0, len(pieces), 2):
        before = pieces[number - 2].lower().lstrip(_OPENING) if number else ""
        shown = _redact_word(pieces[number])
        header = number >= 4 and pieces[number - 4].lower().endswith("authorization:")
        # "***" may have made it as long as a token.
        token = before in _HEADERS and (header or max(len(pieces[number]), len(shown)) >= _SHORTEST_TOKEN)
        pieces[number] = HIDDEN if token else shown
    return "".join(pieces)


def redact_value(text: str) -> str:
    """Replace the secrets of a text that is one URL, source, proxy or ``NAME=VALUE``, even if it has white space."""
    return _redact(text, word=False)


def _redact(text: str, *, word: bool) -> str:
    start = text.find("://")
    if start < 0:
        return _without_options(_redact_bare(text, word=word))
    begin = start
    while begin and text[begin - 1] in _SCHEME_CHARACTERS:
        begin -= 1
    end = start + len("://")
    inner = _INNER_SCHEME.match(text, end)
    end = inner.end() if inner else end
    docker = text[begin:start].lower() == "docker"
    return _without_options(
        _redact_bare(text[:begin], word=word) + text[begin:end] + _redact_address(text[end:], docker=docker)
    )


def _redact_word(word: str) -> str:
    inner = word.lstrip(_OPENING)
    core = inner.rstrip(_CLOSING)
    return word[: len(word) - len(inner)] + _redact(core, word=True) + inner[len(core) :]


def _redact_address(text: str, *, docker: bool) -> str:
    """Redact the part after ``://``."""
    begins = _AUTHORITY.match(text)
    assert begins is not None, "it matches an empty string"
    # Only an "@" inside a password is written as %40.
    if "%40" in begins[0] and "@" not in begins[0]:
        return HIDDEN
    kept, at, last = text.rpartition("@")
    if docker and at and _DIGEST.fullmatch(last):
        return f"{_redact_address(kept, docker=False)}@{last}"
    if not at:
        return _redact_path(text)
    _, at, host = begins[0].rpartition("@")
    if _HOST.fullmatch(host) is None:
        return HIDDEN
    return (f"{HIDDEN}@" if at else "") + host + _redact_path(text[begins.end() :])


def _redact_path(text: str) -> str:
    """Redact the part after a host; it may contain a password that ends at an "@"."""
    path = _PATH.match(text)
    assert path is not None, "it matches an empty string"
    shown, at, last = path[0].rpartition("@")
    shown = f"/{HIDDEN}@{last}" if at else last
    return shown if path.end() == len(text) else f"{shown}{text[path.end()]}{HIDDEN}"


def _redact_bare(text: str, *, word: bool) -> str:
    """Redact a text without a scheme: a path, a proxy, or a ``word`` of a sentence."""
    lead = _LEAD.match(text)
    assert lead is not None, "it matches an empty string"
    value = text[lead.end() :]
    if (lead[1] or "").lower().endswith("proxy"):
        return lead[0] + _redact_address(value, docker=False)
    short = _SHORT_SCHEME.match(value)
    if short is not None:
        return lead[0] + short[0] + _redact_address(value[short.end() :], docker=True)
    before = value.rpartition("@")[0]
    colon = before.find(":")
    if _DEPLOYMENT.fullmatch(value):
        return lead[0] + value
    if colon > 0 and "/" not in before[:colon] and before[colon + 1 : colon + 2] != "/" and value[0] != ".":
        value = _redact_address(value, docker=True)
    query = value.find("?")
    # "?" may also end a sentence or be part of a file name.
    told = "=" in value[query:] if word or value.startswith("/") else query >= 0
    return lead[0] + (f"{value[:query]}?{HIDDEN}" if query >= 0 and told else value)


def _without_options(text: str) -> str:
    option = _OPTION.search(text)
    return text if option is None else text[: option.end()] + HIDDEN
