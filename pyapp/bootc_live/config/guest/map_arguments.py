"""Read the ID map of arguments such as ``b:0:1000000:65536``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from bootc_live.base.errors import ConfigError
from bootc_live.base.numbers import decimal
from bootc_live.config.guest.id_map import END, MOST_RANGES
from bootc_live.config.guest.model import IdMap, IdRange

# The kernel reads a map of less than a page (user_namespaces(7)).
_LONGEST = 4095
_BOTH, _USERS, _GROUPS = ("b", "both"), ("u", "uid"), ("g", "gid")
_FORM = "write b:FROM:TO:COUNT for users and groups, u:… or g:… for one of them, such as --map b:0:1000000:65536"


def parse_map_arguments(texts: Sequence[str]) -> IdMap:
    """Return the map of ``b:FROM:TO:COUNT`` and the like, without IDs that two of them have; raise ConfigError."""
    read = [(text, *_parsed(text)) for text in texts]
    users = [(one, text) for text, kind, one in read if kind not in _GROUPS]
    groups = [(one, text) for text, kind, one in read if kind not in _USERS]
    for name, letter, ranges in (("users", "u", users), ("groups", "g", groups)):
        if not ranges:
            raise ConfigError(
                f"--map {' '.join(texts)!r} has no {name}: no file would belong to any of them",
                hint=f"add --map {letter}:FROM:TO:COUNT, or map both with b:",
            )
        if len(ranges) > MOST_RANGES:
            raise ConfigError(
                f"there are {len(ranges)} ranges of {name} in --map, and the kernel takes {MOST_RANGES}",
                hint="put adjacent ones together",
            )
        if sum(len(f"{one.inside} {one.outside} {one.size}\n") for one, _ in ranges) > _LONGEST:
            raise ConfigError(
                f"{len(ranges)} ranges of {name} in --map are too long together for the kernel",
                hint="put adjacent ones together",
            )
        for side in ("inside", "outside"):
            sides = sorted((getattr(one, side), one.size, text) for one, text in ranges)
            for (begin, size, text), (following, _, other) in pairwise(sides):
                if begin + size > following:
                    raise ConfigError(
                        f"--map {text!r} and --map {other!r} have {name} in common", hint="give each ID one counterpart"
                    )
    return IdMap(tuple(one for one, _ in users), tuple(one for one, _ in groups))


def _parsed(text: str) -> tuple[str, IdRange]:
    kind, *numbers = text.split(":")
    try:
        if kind not in (*_BOTH, *_USERS, *_GROUPS):
            raise ValueError
        inside, outside, size = (decimal(number, limit=END) for number in numbers)
    except ValueError as error:
        raise ConfigError(f"--map {text!r} is not a map", hint=_FORM) from error
    if not size or max(inside, outside) + size > END:
        raise ConfigError(f"--map {text!r} has no ID, or goes beyond the last one, {END - 1}", hint=_FORM)
    return kind, IdRange(inside, outside, size)
