"""What a kernel argument is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The type of an argument's value."""

    BOOLEAN = "boolean"
    TEXT = "text"
    SIZE = "size"
    NUMBER = "number"
    SECONDS = "duration"
    DIGEST = "digest"
    SOURCE = "source"
    MIRROR = "mirror"
    PROXY = "proxy"
    CHOICE = "choice"
    LEVEL = "level"
    SHA256 = "sha256"
    ROOT_HASH = "root hash"
    BLOCK_DEVICE = "device"
    MPOL = "memory policy"
    PATH = "path"
    TIME = "time"


@dataclass(frozen=True)
class Karg:
    """One kernel argument.

    ``default`` and ``example`` are written as on a command line. All occurrences of a ``many`` argument count, in
    order.
    """

    name: str
    kind: Kind
    help: str
    example: str
    default: str = ""
    many: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Subject:
    """The arguments about one thing, and a sentence or two that they have in common."""

    title: str
    about: str
    kargs: tuple[Karg, ...]
