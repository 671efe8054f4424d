"""Merge the files of users and groups line by line, and their lines field by field."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from bootc_live.base.numbers import decimal

# Each table before the one with its passwords.
ACCOUNT_FILES = ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
_TWINS = {"passwd": "shadow", "shadow": "passwd", "group": "gshadow", "gshadow": "group"}
# Fields that are lists of names.
_LISTS = {"group": (3,), "gshadow": (2, 3)}
# The day on which a password was changed: it follows the password, and every build of an image has another one.
_DAY = {"shadow": 2}
_NUMBER = 2
_MOST = 2**32 - 1

# All lines of a name.
_Lines = tuple[bytes, ...]
_Table = dict[bytes, _Lines]
Contents = Mapping[str, bytes]


@dataclass
class MergedAccounts:
    """New contents by file; conflicts as a file and what is about it; numbers that are used twice and the like."""

    contents: dict[str, bytes] = field(default_factory=dict)
    conflicts: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def merge_accounts(old: Contents, new: Contents, local: Contents) -> MergedAccounts:
    """Merge the files that are both in ``new`` and ``local``; their keys are of ``ACCOUNT_FILES``."""
    merged = MergedAccounts()
    olds, news, locals_ = ({name: _table(content) for name, content in files.items()} for files in (old, new, local))
    tables: dict[str, _Table] = {}
    for name in ACCOUNT_FILES:
        if name not in new or name not in local:
            continue
        twin = _TWINS.get(name, "")
        # Both files have a user, or none has. The first file of a pair looks at what was changed in the other one.
        kept = set(tables[twin]) if twin in tables else _changed(olds.get(twin, {}), locals_.get(twin, {}))
        if name == "group":
            kept |= _groups_in_use(tables.get("passwd", {}), news[name], locals_[name])
        table = _merge(name, olds.get(name, {}), news[name], locals_[name], kept, merged)
        tables[name] = table
        # Keeps the order where there is nothing to merge.
        sides = (new, local) if local[name] == old.get(name) else (local, new)
        whole = [files[name] for files in sides if _table(files[name]) == table]
        joined = b"".join(line + b"\n" for lines in table.values() for line in lines)
        merged.contents[name] = whole[0] if whole else joined
    for name, shown in (("passwd", "user"), ("group", "group")):
        if name in tables:
            merged.warnings += _warn_numbers(shown, name, tables[name], locals_[name], news[name])
    for name in ("subuid", "subgid"):
        if name in tables:
            known = _overlaps(locals_[name]) | _overlaps(news[name])
            for one, other in sorted(_overlaps(tables[name]) - known):
                merged.warnings.append(f"the ranges of {_shown(one)} and {_shown(other)} in /etc/{name} overlap")
    return merged


def _table(content: bytes) -> _Table:
    found: _Table = {}
    for line in filter(None, content.split(b"\n")):
        # A line without fields stands for itself.
        key = line.partition(b":")[0] if b":" in line else line
        found[key] = (*found.get(key, ()), line)
    return found


def _changed(old: _Table, local: _Table) -> set[bytes]:
    return {key for key, lines in local.items() if old.get(key) != lines}


def _merge(
    name: str, old: _Table, new: _Table, local: _Table, kept: Collection[bytes], merged: MergedAccounts
) -> _Table:
    """Return the merged table; names of ``kept`` that are on this machine are not removed by the image."""
    found = {}
    for key in local | new:
        was, image, own = old.get(key), new.get(key), local.get(key)
        clash = ""
        if own == was:
            chosen = own if image is None and key in kept else image
        elif image in (was, own):
            chosen = own
        elif own is None or image is None:
            chosen = own
            if own is not None:
                clash = "was changed here and removed by the new image"
            elif _without_day(name, image) != _without_day(name, was):
                clash = "was removed here and changed by the new image"
        else:
            chosen, clash = _merge_lines(name, was, image, own)
        if clash:
            merged.conflicts.append((name, f"{_shown(key)} {clash}"))
        if chosen is not None:
            found[key] = chosen
    return found


def _merge_lines(name: str, old: _Lines | None, new: _Lines, local: _Lines) -> tuple[_Lines, str]:
    """Merge both forms of a line by fields; return it and a text about the fields that both changed."""
    rows = [lines[0].split(b":") for lines in (old or local, new, local)]
    if {len(lines) for lines in (old or local, new, local)} != {1} or len({len(row) for row in rows}) != 1:
        return local, "was changed both here and by the new image"
    before: list[bytes] | list[None] = [None] * len(rows[0]) if old is None else rows[0]
    fields, clashes = [], []
    for at, (was, image, own) in enumerate(zip(before, rows[1], rows[2], strict=True)):
        chosen = own
        if at in _LISTS.get(name, ()):
            chosen = _merge_names(was or b"", image, own)
        elif own == was:
            chosen = image
        elif image not in (was, own) and at != _DAY.get(name):
            clashes.append(str(at + 1))
        fields.append(chosen)
    clash = f"has other values in field {', '.join(clashes)} here than in the new image" if clashes else ""
    return (b":".join(fields),), clash


def _merge_names(old: bytes, new: bytes, local: bytes) -> bytes:
    was, image, own = (list(filter(None, names.split(b","))) for names in (old, new, local))
    stay = [name for name in own if name in image or name not in was]
    return b",".join(stay + [name for name in image if name not in was and name not in own])


def _without_day(name: str, lines: _Lines | None) -> list[list[bytes]]:
    rows = [line.split(b":") for line in lines or ()]
    return [[text for at, text in enumerate(row) if at != _DAY.get(name)] for row in rows]


def _number(line: bytes, at: int) -> int | None:
    try:
        return decimal(line.split(b":")[at], limit=_MOST)
    except (ValueError, IndexError):
        return None


def _owners(table: _Table) -> dict[int, set[bytes]]:
    """Return the names of each number."""
    found: dict[int, set[bytes]] = defaultdict(set)
    for key, lines in table.items():
        for line in lines:
            if (number := _number(line, _NUMBER)) is not None:
                found[number].add(key)
    return found


def _groups_in_use(users: _Table, new: _Table, local: _Table) -> set[bytes]:
    """Return the groups of this machine that users have as their own, and whose number the new image does not name."""
    numbers = {_number(line, _NUMBER + 1) for lines in users.values() for line in lines}
    owners, named = _owners(local), _owners(new)
    return {key for number in owners.keys() - named.keys() if number in numbers for key in owners[number]}


def _warn_numbers(shown: str, name: str, table: _Table, local: _Table, new: _Table) -> list[str]:
    """Return warnings about numbers that got a second name, and names that got another number."""
    found, owners, known = [], _owners(table), (_owners(local), _owners(new))
    for number, names in sorted(owners.items()):
        if len(names) > 1 and not any(names <= each.get(number, set()) for each in known):
            listed = ", ".join(map(_shown, sorted(names)))
            found.append(f"the number {number} in /etc/{name} now belongs to more than one {shown}: {listed}")
    before = {key: number for number, names in _owners(local).items() for key in names}
    moved = [
        f"{_shown(key)} {number} (was {before[key]})"
        for number, names in sorted(owners.items())
        for key in sorted(names)
        if before.get(key, number) != number
    ]
    if moved:
        found.append(
            f"numbers that the new image changes in /etc/{name}: {', '.join(moved)}; files in /var keep theirs"
        )
    return found


def _overlaps(table: _Table) -> set[tuple[bytes, bytes]]:
    """Return the pairs of names whose ranges of numbers have something in common."""
    ranges = [
        (start, start + count, key)
        for key, lines in table.items()
        for line in lines
        if (start := _number(line, 1)) is not None and (count := _number(line, 2))
    ]
    found, open_ranges = set(), list[tuple[int, bytes]]()
    for start, end, key in sorted(ranges):
        open_ranges = [each for each in open_ranges if each[0] > start]
        found |= {(min(key, other), max(key, other)) for _, other in open_ranges if other != key}
        open_ranges.append((end, key))
    return found


def _shown(name: bytes) -> str:
    return repr(name.decode(errors="backslashreplace"))
