"""What the first process of a container does to become the guest's init, as values that can be written as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from bootc_live.config.guest.model import Command, IdRange, RootMode

# Of id_map: inside, outside, size.
Ranges = tuple[IdRange, ...]


@dataclass(frozen=True)
class GuestPlan:
    """The root is attached at ``place`` and becomes the root in the way of ``mode``; hooks follow, then ``argv``.

    ``users`` and ``groups`` are empty without a map. ``setup`` says whether namespaces and mounts are made.
    """

    place: str
    mode: RootMode
    setup: bool
    users: Ranges
    groups: Ranges
    hooks: tuple[Command, ...]
    argv: tuple[str, ...]
    environment: dict[str, str]
    initctl: bool = False
    rescue: bool = False

    def data(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    @classmethod
    def of(cls, data: dict[str, Any]) -> Self:
        """Return what ``data`` made."""
        lists = {
            "mode": RootMode(data["mode"]),
            "users": tuple(IdRange(**each) for each in data["users"]),
            "groups": tuple(IdRange(**each) for each in data["groups"]),
            "hooks": tuple(Command(tuple(each["argv"]), each["key"], each["input"]) for each in data["hooks"]),
            "argv": tuple(data["argv"]),
        }
        return cls(**{**data, **lists})


def outside(ranges: Ranges, inside: int = 0) -> int:
    """Return which ID an ID of the guest is outside; the same without a map, 0 if it has none."""
    for each in ranges:
        if each.inside <= inside < each.inside + each.size:
            return each.outside + inside - each.inside
    return 0 if ranges else inside


def lines(ranges: Ranges) -> str:
    """Return a map as the kernel takes it (user_namespaces(7))."""
    return "".join(f"{each.inside} {each.outside} {each.size}\n" for each in ranges)
