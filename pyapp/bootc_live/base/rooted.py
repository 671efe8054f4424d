"""Paths of a tree that is, or will be, the root for somebody else."""

from __future__ import annotations

import os

_MOST_LINKS = 40


def resolve_below(root: str, name: str) -> str | None:
    """Give the path of ``name`` with links followed as they would be if ``root`` were ``/``.

    None where it is not there, or links go round (path_resolution(7)). The result never leaves ``root``.
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


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part and part != "."]
