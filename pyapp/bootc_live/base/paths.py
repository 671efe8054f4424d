"""Paths inside a tree that will be the root of another system."""

from __future__ import annotations

import os

_MOST_LINKS = 40


def resolve_below(root: str, name: str) -> str | None:
    """Return the path of ``name`` with links followed as if ``root`` were ``/``; the result is always below ``root``.

    None if it does not exist or links form a loop (path_resolution(7)).
    """
    path, todo, followed = root, _parts(name), 0
    while todo:
        part = todo.pop(0)
        if part == "..":
            path = root if path == root else os.path.dirname(path)
            continue
        path = os.path.join(path, part)
        if os.path.islink(path):
            followed += 1
            if followed > _MOST_LINKS:
                return None
            target = os.readlink(path)
            path = root if target.startswith("/") else os.path.dirname(path)
            todo = _parts(target) + todo
        elif not os.path.lexists(path):
            return None
    return path


def directory_below(root: str, name: str, mode: int = 0o755) -> str:
    """Return the path of a directory as ``resolve_below`` does, made if it is missing; raise OSError."""
    path, made = root, ""
    for part in name.split("/"):
        made = f"{made}/{part}"
        found = resolve_below(root, made)
        if found is None:
            found = os.path.join(path, part)
            if os.path.lexists(found):
                # A link to nowhere.
                os.unlink(found)
            os.mkdir(found, mode)
        path = found
    return path


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part and part != "."]
