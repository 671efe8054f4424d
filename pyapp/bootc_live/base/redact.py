"""Hide the secrets that people and servers write into URLs and options, before a text is shown or kept.

What holds a login and cannot be taken apart as RFC 3986 does is not shown at all. Every step looks at a character
once: servers choose texts, too.
"""

from __future__ import annotations

import re

HIDDEN = "***"

_SCHEME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-")
# A torrent may be named by a URL of its own: torrent://https://…
_INNER_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}://")
_AUTHORITY = re.compile(r"[^/?#]*")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*)(?::[0-9]{0,5})?")
_PATH = re.compile(r"[^?#;]*")
# What follows the "@" of an image reference with a digest: that is no host.
_DIGEST = re.compile(r"sha[0-9]+:[0-9a-f]*")
# What may stand in front of a value: the name of an argument, and how sources of ours and of mount begin.
_LEAD = re.compile(r"(?:([A-Za-z0-9_.-]+)=)?[\"']?(?:bootc-live:)?(?:nfs4?:)?", re.IGNORECASE)
# A scheme with too few slashes, and none at all.
_SHORT_SCHEME = re.compile(r"(?:(?:docker|torrent|socks[45][ah]?|https?|t?ftps?):/?|/)/", re.IGNORECASE)
_OPTION = re.compile(
    r"(?<![A-Za-z])(?:pass(?:word|wd|phrase)?|pwd|psk|secret|token|auth|sig(?:nature)?|credential(?:s|_binary)?"
    r"|(?:api|access)[_-]?key)=",
    re.IGNORECASE,
)
# Before a secret in a header (RFC 7235); shorter words are English.
_HEADERS = frozenset({"bearer", "basic"})
_SHORTEST_TOKEN = 16
_OPENING, _CLOSING = "'\"(<{,", "'\"),;:.>}"
_SPACES = re.compile(r"(\s+)")


def redact(text: str) -> str:
    """Return a text with ``***`` for the secrets of every URL, proxy and option in it; words end at white space.

    These are userinfo, query, parameters and fragment of URLs. ``user:password@host:port`` without a scheme counts,
    too. References such as ``os:tag@sha256:…`` stay as they are. Giving the result back changes nothing.
    """
    pieces = _SPACES.split(text)
    for number in range(0, len(pieces), 2):
        before = pieces[number - 2].lower().lstrip(_OPENING) if number else ""
        shown = _redact_word(pieces[number])
        header = number >= 4 and pieces[number - 4].lower().endswith("authorization:")
        # It may have become as long as a token just now.
        token = before in _HEADERS and (header or max(len(pieces[number]), len(shown)) >= _SHORTEST_TOKEN)
        pieces[number] = HIDDEN if token else shown
    return "".join(pieces)


def redact_value(text: str) -> str:
    """Return a text that is one URL, source, proxy or ``NAME=VALUE``, white space and quotes included, likewise."""
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
    """Redact what stands behind ``://``."""
    begins = _AUTHORITY.match(text)
    assert begins is not None, "it matches nothing, too"
    # An "@" that was quoted, as only one within a password is to be.
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
    """Redact what follows a host; a password may have ended up in it, before the "@" that was meant for the host."""
    path = _PATH.match(text)
    assert path is not None, "it matches nothing, too"
    shown, at, last = path[0].rpartition("@")
    shown = f"/{HIDDEN}@{last}" if at else last
    return shown if path.end() == len(text) else f"{shown}{text[path.end()]}{HIDDEN}"


def _redact_bare(text: str, *, word: bool) -> str:
    """Redact what has no scheme: a path, a proxy, and where it is but a ``word``, a part of a sentence."""
    lead = _LEAD.match(text)
    assert lead is not None, "it matches nothing, too"
    value = text[lead.end() :]
    if (lead[1] or "").lower().endswith("proxy"):
        return lead[0] + _redact_address(value, docker=False)
    short = _SHORT_SCHEME.match(value)
    if short is not None:
        return lead[0] + short[0] + _redact_address(value[short.end() :], docker=True)
    before = value.rpartition("@")[0]
    colon = before.find(":")
    if colon > 0 and "/" not in before[:colon] and before[colon + 1 : colon + 2] != "/" and value[0] != ".":
        value = _redact_address(value, docker=True)
    query = value.find("?")
    # It may be the end of a question, or part of a file's name.
    told = "=" in value[query:] if word or value.startswith("/") else query >= 0
    return lead[0] + (f"{value[:query]}?{HIDDEN}" if query >= 0 and told else value)


def _without_options(text: str) -> str:
    option = _OPTION.search(text)
    return text if option is None else text[: option.end()] + HIDDEN
