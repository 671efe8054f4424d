"""Parsers for the values of kernel arguments."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

from bootc_live.base.numbers import LARGEST_SIZE, decimal
from bootc_live.config.model import Mirror
from bootc_live.system.memory import total_bytes

_TRUE = frozenset({"1", "yes", "on", "true", "y"})
_FALSE = frozenset({"0", "no", "off", "false", "n"})
_SIZE = re.compile(r"([0-9]+)([KMGT]?)(i?B)?\Z", re.IGNORECASE)
_SHARE = re.compile(r"([0-9]{1,4})%")
_UNIT = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smh]?)\Z", re.IGNORECASE)
_SPAN = {"": 1, "s": 1, "m": 60, "h": 3600}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_MIRROR = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::[0-9]{1,5})?"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)

_LEVEL = re.compile(r"-?[0-9]{1,3}")
_ONE_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_DEVICE = re.compile(r"(?:LABEL|UUID|PARTLABEL|PARTUUID)=.+|/dev/.+")
_MPOL = re.compile(
    r"default|local|interleave|(?:prefer|bind|interleave)(?:=static|=relative)?:"
    r"(?:all|[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*)"
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


def parse_size(text: str | None, total: Callable[[], int] = total_bytes) -> int:
    """Read a size such as ``512M`` or ``8G`` (powers of 1024), or a share of RAM such as ``50%``, as tmpfs(5) does.

    Gives bytes, raises ValueError. ``total`` tells how much RAM there is.
    """
    share = _SHARE.fullmatch(text or "")
    percent = 0 if share is None else decimal(share[1], limit=9999)
    if percent:
        size = percent * total() // 100
        if not size:
            raise ValueError("is a share of RAM, but how much there is cannot be read; write a number of bytes")
        return size
    match = _SIZE.match(text or "")
    with suppress(ValueError):
        size = 0 if match is None else decimal(match[1], limit=LARGEST_SIZE) * _UNIT[match[2].upper()]
        if 0 < size <= LARGEST_SIZE:
            return size
    raise ValueError("is not a size; write a number with K, M, G or T, such as 8G, or a share of RAM, such as 50%")


def parse_choice(text: str | None, choices: tuple[str, ...]) -> str:
    """Read one of a few words, in any case and with ``_`` for ``.``; gives it as listed, raises ValueError."""
    word = (text or "").lower().replace("_", ".")
    if word not in choices:
        raise ValueError(f"is none of {', '.join(choices)}")
    return word


def parse_level(text: str | None) -> int:
    """Read the level of a compression algorithm, which some let be negative; raises ValueError."""
    if text is None or _LEVEL.fullmatch(text) is None:
        raise ValueError("is not a level; write a whole number such as 3")
    return -decimal(text[1:], limit=999) if text.startswith("-") else decimal(text, limit=999)


def parse_sha256(text: str | None) -> str:
    """Read the sha256 of a file with ``sha256:`` in front; raises ValueError."""
    if text is None or _ONE_SHA256.fullmatch(text) is None:
        raise ValueError("is not a sha256; write sha256: and 64 lower-case hexadecimal digits")
    return text


def parse_device(text: str | None) -> str:
    """Read the name of a block device as ``LABEL=``, ``UUID=``, ``PARTLABEL=``, ``PARTUUID=`` or a path below /dev.

    Raises ValueError.
    """
    if text is None or _DEVICE.fullmatch(text) is None:
        raise ValueError("names no block device; write LABEL=, UUID=, PARTLABEL=, PARTUUID= or /dev/NAME")
    return text


def parse_mpol(text: str | None) -> str:
    """Read a memory policy as tmpfs(5) has it after ``mpol=``; whether its nodes exist is the kernel's to say.

    Raises ValueError.
    """
    if text is None or _MPOL.fullmatch(text) is None:
        raise ValueError(
            "is not a memory policy; write default, local, interleave, or prefer, bind or interleave with nodes, "
            "such as bind:0-3"
        )
    return text


def parse_text(text: str | None) -> str:
    """Read a value that may be any text but not empty; raises ValueError."""
    if not text:
        raise ValueError("needs a value")
    return text


def parse_number(text: str | None) -> int:
    """Read a whole number from 1 to 999; raises ValueError."""
    with suppress(ValueError):
        number = decimal(text or "", limit=999)
        if number:
            return number
    raise ValueError("is not a whole number from 1 to 999")


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
