"""Parse the values of kernel arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar, cast

from bootc_live.base.numbers import LARGEST_SIZE, decimal
from bootc_live.config.cmdline.karg import Kind
from bootc_live.config.model import Mirror
from bootc_live.config.source_spec import AUTHORITY, SCHEME
from bootc_live.formats.oci.reference import HOST, PATH
from bootc_live.system.memory import total_bytes

# Parsed values by the name of their argument; the list is empty if the value is invalid.
Values = Mapping[str, list[object]]
_T = TypeVar("_T")

_TRUE = ("1", "yes", "on", "true", "y")
_FALSE = ("0", "no", "off", "false", "n")
BOOLEAN_WORDS = f"{' '.join(_TRUE)} / {' '.join(_FALSE)}"
_SIZE = re.compile(r"([0-9]+)([KMGT]?)(i?B)?\Z", re.IGNORECASE)
_PERCENTAGE = re.compile(r"([0-9]{1,4})%")
_SIZE_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smh]?)\Z", re.IGNORECASE)
_TIME_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_MIRROR = re.compile(HOST + PATH)
_PROXY = re.compile(rf"{AUTHORITY}/?\Z")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:Z|[+-][0-9]{2}:[0-9]{2})?)?")
_LEVEL = re.compile(r"-?[0-9]{1,3}")
_NODES = r"all|[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*"
_HEX = "lower-case hexadecimal digits"
# Values that are used as they are written, and the message for all others.
_PATTERNS = {
    Kind.TEXT: (re.compile(r".+", re.DOTALL), "needs a value"),
    Kind.PATH: (re.compile(r"/.+"), "is not an absolute path"),
    Kind.DIGEST: (
        re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"),
        f"is not a digest; write sha256: and 64 {_HEX}, or sha512: and 128 of them",
    ),
    Kind.SHA256: (re.compile(r"sha256:[0-9a-f]{64}"), f"is not a SHA-256 digest; write sha256: and 64 {_HEX}"),
    Kind.ROOT_HASH: (re.compile(r"[0-9a-f]{64}"), f"is not a root hash; write 64 {_HEX}"),
    Kind.BLOCK_DEVICE: (
        re.compile(r"(?:LABEL|UUID|PARTLABEL|PARTUUID)=.+|/dev/.+"),
        "is not a block device; write LABEL=, UUID=, PARTLABEL=, PARTUUID= or /dev/NAME",
    ),
    # As tmpfs(5) describes mpol=. The kernel checks whether the nodes exist.
    Kind.MPOL: (
        re.compile(rf"default|local|interleave|(?:prefer|bind|interleave)(?:=static|=relative)?:(?:{_NODES})"),
        "is not a memory policy; write default, local, interleave, prefer, bind or interleave with nodes (bind:0-3)",
    ),
}


def last(values: Values, name: str, default: _T) -> _T:
    """Return the value of the last valid argument ``name``."""
    found = values.get(name)
    return cast("_T", found[-1]) if found else default


def parse_value(kind: Kind, text: str | None) -> object:
    """Return the value of an argument; ``text`` is None without ``=``.

    Raise ValueError with a reason that continues the quoted argument.
    """
    if kind in _PARSERS:
        return _PARSERS[kind](text)
    pattern, reason = _PATTERNS[kind]
    if text is None or pattern.fullmatch(text) is None:
        raise ValueError(reason)
    return text


def parse_choice(text: str | None, choices: tuple[str, ...]) -> str:
    """Return the choice that ``text`` names in any case, and with ``_`` for ``.``; raise ValueError."""
    word = (text or "").lower().replace("_", ".")
    if word not in choices:
        raise ValueError(f"is not one of {', '.join(choices)}")
    return word


def parse_size(text: str | None, total: Callable[[], int] = total_bytes) -> int:
    """Return the bytes of ``512M``, ``8G`` (powers of 1024) or ``50%`` of RAM; raise ValueError.

    ``total`` returns the size of RAM.
    """
    percentage = _PERCENTAGE.fullmatch(text or "")
    percent = 0 if percentage is None else decimal(percentage[1], limit=9999)
    if percent:
        size = percent * total() // 100
        if not size:
            raise ValueError("is a percentage of RAM, but the size of RAM cannot be read; write a number of bytes")
        return size
    match = _SIZE.match(text or "")
    with suppress(ValueError):
        size = 0 if match is None else decimal(match[1], limit=LARGEST_SIZE) * _SIZE_UNITS[match[2].upper()]
        if 0 < size <= LARGEST_SIZE:
            return size
    raise ValueError("is not a size; write a number with K, M, G or T, such as 8G, or a percentage of RAM, such as 50%")


def parse_proxy(text: str | None) -> str:
    """Return the URL of a proxy with ``http://`` or ``https://``, or ``""`` for no proxy; raise ValueError."""
    if not text:
        return ""
    scheme = SCHEME.match(text)
    name = scheme[1].lower() if scheme else "http"
    if name.startswith("socks"):
        raise ValueError(f"names a SOCKS proxy ({name}://), which is not supported; use an http:// proxy")
    if name not in {"http", "https"}:
        raise ValueError(f"uses the unknown scheme {name}://; write http://HOST:PORT")
    server = text[scheme.end() :] if scheme else text
    if _PROXY.match(server) is None:
        raise ValueError("is not a proxy; write http://HOST:PORT, with special characters of a password as %XX")
    return f"{name}://{server.rstrip('/')}"


def _parse_boolean(text: str | None) -> bool:
    # Not with dracut's getargbool, which reads "false", "n" and "Off" as true.
    word = "1" if text is None else text.lower()
    if word not in _TRUE + _FALSE:
        raise ValueError(f"is not a boolean; use one of {BOOLEAN_WORDS}")
    return word in _TRUE


def _parse_level(text: str | None) -> int:
    if text is None or _LEVEL.fullmatch(text) is None:
        raise ValueError("is not a level; write a whole number such as 3")
    return -decimal(text[1:], limit=999) if text.startswith("-") else decimal(text, limit=999)


def _parse_number(text: str | None) -> int:
    with suppress(ValueError):
        number = decimal(text or "", limit=999)
        if number:
            return number
    raise ValueError("is not a whole number from 1 to 999")


def _parse_seconds(text: str | None) -> float:
    match = _SECONDS.match(text or "")
    seconds = float(match[1]) * _TIME_UNITS[match[2].lower()] if match else 0.0
    if not 0 < seconds < 1e9:
        raise ValueError("is not a duration; write a number with s, m or h, such as 30s")
    return seconds


def _parse_time(text: str | None) -> datetime:
    with suppress(ValueError):
        if text is not None and _TIME.fullmatch(text) is not None:
            time = datetime.fromisoformat(text)
            return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    raise ValueError("is not a date or time; write 2026-11-30 or 2026-11-30T18:00:00Z")


def _parse_mirror(text: str | None) -> Mirror:
    location = text or ""
    insecure = location.lower().startswith("http://")
    if insecure or location.lower().startswith("https://"):
        location = location.partition("//")[2]
    if "@" in location:
        raise ValueError("must not contain a user or password; put them into /etc/bootc-live/auth.json")
    location = location.removesuffix("/")
    if _MIRROR.fullmatch(location) is None:
        raise ValueError("is not a mirror; write [http://]HOST[:PORT][/PATH]")
    return Mirror(location=location, insecure=insecure)


_PARSERS: dict[Kind, Callable[[str | None], object]] = {
    Kind.BOOLEAN: _parse_boolean,
    Kind.SIZE: parse_size,
    Kind.NUMBER: _parse_number,
    Kind.SECONDS: _parse_seconds,
    Kind.TIME: _parse_time,
    Kind.MIRROR: _parse_mirror,
    Kind.PROXY: parse_proxy,
    Kind.LEVEL: _parse_level,
}
