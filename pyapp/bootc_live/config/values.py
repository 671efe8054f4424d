"""Parsers for the values of kernel arguments."""

from __future__ import annotations

import re

from bootc_live.config.model import Mirror

_TRUE = frozenset({"1", "yes", "on", "true", "y"})
_FALSE = frozenset({"0", "no", "off", "false", "n"})
_SIZE = re.compile(r"([0-9]+)([KMGT]?)(i?B)?\Z", re.IGNORECASE)
_UNIT = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smh]?)\Z", re.IGNORECASE)
_SPAN = {"": 1, "s": 1, "m": 60, "h": 3600}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_MIRROR = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)

BOOLEAN_WORDS = "1 yes on true y / 0 no off false n"


def parse_boolean(text: str | None) -> bool:
    """Read a boolean; no value at all means true.

    dracut's ``getargbool`` takes ``false``, ``n`` and ``Off`` for true, so it is
    never asked. Raises ValueError for anything that is not one of the words.
    """
    if text is None:
        return True
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"is not a boolean; use one of {BOOLEAN_WORDS}")


def parse_size(text: str | None) -> int:
    """Read a size such as ``512M`` or ``8G`` (powers of 1024); gives bytes, raises ValueError."""
    match = _SIZE.match(text or "")
    if match is None or int(match[1]) == 0:
        raise ValueError("is not a size; write a number with K, M, G or T, such as 8G")
    return int(match[1]) * _UNIT[match[2].upper()]


def parse_text(text: str | None) -> str:
    """Read a value that may be any text but not empty; raises ValueError."""
    if not text:
        raise ValueError("needs a value")
    return text


def parse_number(text: str | None) -> int:
    """Read a whole number from 1 to 999; raises ValueError."""
    if text is None or re.fullmatch("[0-9]{1,3}", text) is None or int(text) == 0:
        raise ValueError("is not a whole number from 1 to 999")
    return int(text)


def parse_seconds(text: str | None) -> float:
    """Read a duration such as ``30``, ``30s``, ``5m`` or ``1h``; gives seconds, raises ValueError."""
    match = _SECONDS.match(text or "")
    seconds = float(match[1]) * _SPAN[match[2].lower()] if match else 0.0
    if not 0 < seconds < 1e9:
        raise ValueError("is not a duration; write a number with s, m or h, such as 30s")
    return seconds


def parse_digest(text: str | None) -> str:
    """Read the digest of a manifest (image-spec, descriptor, digests); raises ValueError."""
    if text is None or _DIGEST.fullmatch(text) is None:
        raise ValueError(
            "is not a digest; write sha256: and 64 lower-case hexadecimal digits, or sha512: and 128 of them"
        )
    return text


def parse_mirror(text: str | None) -> Mirror:
    """Read ``[http://]HOST[:PORT][/PATH]``; ``http://`` makes it insecure. Raises ValueError."""
    written = text or ""
    insecure = written.lower().startswith("http://")
    location = written[written.index("//") + 2 :] if insecure or written.lower().startswith("https://") else written
    if "@" in location:
        raise ValueError("must not hold a user or password; put them into /etc/bootc-live/auth.json")
    location = location.removesuffix("/")
    if _MIRROR.fullmatch(location) is None:
        raise ValueError("is not a mirror; write [http://]HOST[:PORT][/PATH]")
    return Mirror(location=location, insecure=insecure)
