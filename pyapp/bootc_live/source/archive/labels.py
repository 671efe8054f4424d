"""Which image of an archive a label means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from bootc_live.base.errors import SourceError

_Entry = TypeVar("_Entry")


def choose(
    typed: str, entries: Sequence[_Entry], names_of: Callable[[_Entry], set[str]], label: str | None
) -> list[_Entry]:
    """Return the entries that a label names, by whole name or by tag; None takes ``latest``, or the only image.

    Several have the same set of names, or none has one: an image for several platforms. Raise SourceError listing
    what there is.
    """
    wanted = label or "latest"
    exact = [entry for entry in entries if wanted in names_of(entry)]
    by_tag = [entry for entry in entries if wanted in {_tag(name) for name in names_of(entry)}]
    found = exact or by_tag
    if not found and label is None and _one_image(entries, names_of):
        found = list(entries)
    if not found:
        raise SourceError(
            f"{typed!r} holds no image called {wanted!r} (it holds: {_listed(entries, names_of)})",
            hint=_advice(entries, names_of),
        )
    # Images for several platforms share all their names; others only happen to have the same tag.
    if not _one_image(found, names_of):
        raise SourceError(
            f"{typed!r} holds several images called {wanted!r} (it holds: {_listed(found, names_of)})",
            hint=_advice(found, names_of),
        )
    return found


def _one_image(entries: Sequence[_Entry], names_of: Callable[[_Entry], set[str]]) -> bool:
    return len({frozenset(names_of(entry)) for entry in entries}) == 1


def _advice(entries: Sequence[_Entry], names_of: Callable[[_Entry], set[str]]) -> str:
    """Say what can be done: name an image by a name that it shares with no other, if there is one."""
    images = {frozenset(names_of(entry)) for entry in entries}
    named = Counter(name for names in images for name in names)
    good = sorted(name for name, count in named.items() if count == 1)
    if good:
        return f"give the whole name of one of them with bootclabel=, such as bootclabel={good[0]}"
    if entries and not named:
        return "leave bootclabel= out: what runs on this machine is chosen then"
    return (
        "make the archive anew with a name for the image, for example: skopeo copy SOURCE oci-archive:FILE.oci:latest"
    )


def _listed(entries: Sequence[_Entry], names_of: Callable[[_Entry], set[str]]) -> str:
    return ", ".join(sorted({name for entry in entries for name in names_of(entry)})) or "none with a name"


def _tag(name: str) -> str:
    # podman writes the whole reference where skopeo writes the tag alone.
    last = name.rpartition("/")[2]
    return last.partition(":")[2]
