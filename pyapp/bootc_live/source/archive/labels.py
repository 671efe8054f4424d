"""Which image of an archive a label means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from bootc_live.base.errors import SourceError

_Entry = TypeVar("_Entry")


def choose(
    typed: str, entries: Sequence[_Entry], names_of: Callable[[_Entry], set[str]], label: str | None
) -> list[_Entry]:
    """Give the entries that a label names, by whole name or by tag; None takes ``latest``, or the only entry.

    Several have the same set of names: an image for several platforms. Raises SourceError listing what there is.
    """
    wanted = label or "latest"
    exact = [entry for entry in entries if wanted in names_of(entry)]
    by_tag = [entry for entry in entries if wanted in {_tag(name) for name in names_of(entry)}]
    found = exact or by_tag
    if not found and label is None and len(entries) == 1:
        found = list(entries)
    if not found:
        raise SourceError(
            f"{typed!r} holds no image called {wanted!r} (it holds: {_listed(entries, names_of)})",
            hint="name one of them with bootclabel=",
        )
    # Images for several platforms share all their names; others only happen to have the same tag.
    if len({frozenset(names_of(entry)) for entry in found}) > 1:
        raise SourceError(
            f"{typed!r} holds several images called {wanted!r} (it holds: {_listed(found, names_of)})",
            hint="give the whole name of one of them with bootclabel=",
        )
    return found


def _listed(entries: Sequence[_Entry], names_of: Callable[[_Entry], set[str]]) -> str:
    return ", ".join(sorted({name for entry in entries for name in names_of(entry)})) or "none with a name"


def _tag(name: str) -> str:
    # podman writes the whole reference where skopeo writes the tag alone.
    last = name.rpartition("/")[2]
    return last.partition(":")[2]
