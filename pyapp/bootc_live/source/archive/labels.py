"""Choose the image in an archive by its label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from bootc_live.base.advice import advise
from bootc_live.base.errors import SourceError
from bootc_live.source.archive.files import HINT

_Entry = TypeVar("_Entry")


def choose(
    source_text: str, entries: Sequence[_Entry], names_of: Callable[[_Entry], set[str]], label: str | None
) -> list[_Entry]:
    """Return the entries with a label as full name or tag; None selects ``latest``, or the only image.

    Several entries have the same names, or none: an image for several platforms. Raise SourceError with all names.
    """
    wanted = label or "latest"
    exact = [entry for entry in entries if wanted in names_of(entry)]
    by_tag = [entry for entry in entries if wanted in {_tag(name) for name in names_of(entry)}]
    found = exact or by_tag
    if not found and label is None and _one_image(entries, names_of):
        found = list(entries)
    if not found:
        raise SourceError(
            f"{source_text!r} contains no image called {wanted!r} (it contains: {_listed(entries, names_of)})",
            hint=_advice(entries, names_of),
        )
    # Images for several platforms share all their names, not only the tag.
    if not _one_image(found, names_of):
        raise SourceError(
            f"{source_text!r} contains several images called {wanted!r} (it contains: {_listed(found, names_of)})",
            hint=_advice(found, names_of),
        )
    return found


def _one_image(entries: Sequence[_Entry], names_of: Callable[[_Entry], set[str]]) -> bool:
    return len({frozenset(names_of(entry)) for entry in entries}) == 1


def _advice(entries: Sequence[_Entry], names_of: Callable[[_Entry], set[str]]) -> str:
    """Return a hint with the unique name of an image, if there is one."""
    images = {frozenset(names_of(entry)) for entry in entries}
    named = Counter(name for names in images for name in names)
    unique = sorted(name for name, count in named.items() if count == 1)
    if unique:
        return f"select one by its full name, such as {advise('bootclabel=', '--label ')}{unique[0]}"
    if entries and not named:
        return f"leave out {advise('bootclabel=', '--label')} to select the image for this machine"
    return f"the image needs a name; {HINT}"


def _listed(entries: Sequence[_Entry], names_of: Callable[[_Entry], set[str]]) -> str:
    return ", ".join(sorted({name for entry in entries for name in names_of(entry)})) or "no names"


def _tag(name: str) -> str:
    # podman writes the whole reference, skopeo only the tag.
    last = name.rpartition("/")[2]
    return last.partition(":")[2]
