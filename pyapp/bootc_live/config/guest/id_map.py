"""Read the ID map of a guest, in all its spellings."""

from __future__ import annotations

from itertools import pairwise

import yaml

from bootc_live.config.guest.document import Document
from bootc_live.config.guest.model import IdMap, IdRange

_FIELDS = ("internal", "external", "size")
# 2**32 - 1 is no user (user_namespaces(7)).
END = 2**32 - 1
# Of a map, in lines; those since Linux 4.15.
MOST_RANGES = 340
# The kernel takes less than one page, which has 4096 bytes at least.
_LONGEST = 4095


def read_id_map(document: Document, node: yaml.Node, key: str = "id_map") -> IdMap | None:
    """Return the map; None if it is false, or has mistakes."""

    def off(scalar: yaml.Node) -> None:
        if document.flag(scalar, key):
            document.wrong(scalar, key, "is true; write users and groups, or false")

    return document.of_kind(node, {"map": lambda mapping: _map(document, mapping, key), "bool": off}, key)


def _map(document: Document, node: yaml.Node, key: str) -> IdMap | None:
    entries = document.entries(node, ("users", "groups"), key)
    for name in ("users", "groups"):
        if name not in entries:
            document.wrong(node, key, f"has no {name}: a map has both")
    ranges = {name: _ranges(document, entry, f"{key}.{name}") for name, entry in entries.items()}
    users, groups = ranges.get("users"), ranges.get("groups")
    return IdMap(users, groups) if users and groups else None


def _ranges(document: Document, node: yaml.Node, key: str) -> tuple[IdRange, ...] | None:
    before = len(document.mistakes)
    # Three numbers by themselves are one range.
    single = isinstance(node, yaml.SequenceNode) and all(document.kind(each) == "int" for each in node.value)
    if isinstance(node, yaml.SequenceNode) and not (single and node.value):
        found = [_range(document, each, f"{key}[{number}]") for number, each in enumerate(node.value)]
    else:
        found = [_range(document, node, key)]
    ranges = [each for each in found if each is not None]
    if len(document.mistakes) == before:
        _check(document, node, ranges, key)
    return tuple(ranges) if len(document.mistakes) == before else None


def _range(document: Document, node: yaml.Node, key: str) -> IdRange | None:
    before = len(document.mistakes)
    numbers = document.of_kind(
        node,
        {
            "str": lambda scalar: [document.digits(scalar, word, key) for word in scalar.value.split()],
            "seq": lambda items: [document.number(each, f"{key}[{at}]") for at, each in enumerate(items.value)],
            "map": lambda mapping: _fields(document, mapping, key),
        },
        key,
    )
    if numbers is None or len(document.mistakes) != before:
        return None
    inside, outside, size = [*(number or 0 for number in numbers), 1][:3] if len(numbers) in (2, 3) else (0, 0, 0)
    if len(numbers) not in (2, 3):
        document.wrong(node, key, "is not 'internal external' or 'internal external size'")
    elif size == 0:
        document.wrong(node, key, "has the size 0")
    elif max(inside, outside) + size > END:
        document.wrong(node, key, f"ends above {END - 1}, the last ID")
    else:
        return IdRange(inside, outside, size)
    return None


def _fields(document: Document, node: yaml.Node, key: str) -> list[int | None]:
    entries = document.entries(node, _FIELDS, key)
    for name in _FIELDS[:2]:
        if name not in entries:
            document.wrong(node, key, f"has no {name}")
    return [document.number(entries[name], f"{key}.{name}") for name in _FIELDS if name in entries]


def _check(document: Document, node: yaml.Node, ranges: list[IdRange], key: str) -> None:
    for side, sides in (("inside", [(each.inside, each.size) for each in ranges]), ("outside", _outside(ranges))):
        for (first, size), (second, _) in pairwise(sorted(sides)):
            if first + size > second:
                document.wrong(node, key, f"has {second} twice {side} the guest")
    if not any(each.inside == 0 for each in ranges):
        document.wrong(node, key, "has no 0: the guest would have no root")
    if len(ranges) > MOST_RANGES:
        document.wrong(node, key, f"has {len(ranges)} ranges, and the kernel takes {MOST_RANGES}")
    elif sum(len(f"{each.inside} {each.outside} {each.size}\n") for each in ranges) > _LONGEST:
        document.wrong(node, key, f"has more than {_LONGEST} characters, as the kernel counts them: use fewer ranges")


def _outside(ranges: list[IdRange]) -> list[tuple[int, int]]:
    return [(each.outside, each.size) for each in ranges]
