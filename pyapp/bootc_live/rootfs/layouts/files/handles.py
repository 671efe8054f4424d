"""Open directories of a tree that is being made, by node: nothing of an image is ever resolved as a path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.rootfs.tree.node import Node

# Well below the 1024 descriptors that a process may have open unless told otherwise.
_MOST = 256
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Handles:
    """Descriptors of directories, opened one name at a time from the top; the ones used last stay open."""

    def __init__(self, root: Node, top: int) -> None:
        """``top`` is the open directory that ``root`` stands for; the caller keeps it."""
        self._root = root
        self._top = top
        self._places: dict[int, tuple[Node, bytes]] = {}
        self._open: dict[int, int] = {}

    def add(self, node: Node, parent: Node, name: bytes) -> None:
        """Learn where a directory is."""
        self._places[id(node)] = (parent, name)

    def fd(self, node: Node) -> int:
        """Give the descriptor of a directory, good until the next call. Raises OSError."""
        if node is self._root:
            return self._top
        found = self._open.pop(id(node), None)
        if found is None:
            return self._reopened(node)
        # To the end: the first ones are closed first.
        self._open[id(node)] = found
        return found

    def place(self, node: Node) -> tuple[int, bytes]:
        """Give the descriptor of a directory's parent, good until the next call, and the directory's name there."""
        parent, name = self._places[id(node)]
        return self.fd(parent), name

    def close(self) -> None:
        """Close them all."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _reopened(self, node: Node) -> int:
        missing = []
        while node is not self._root and id(node) not in self._open:
            missing.append(node)
            node = self._places[id(node)][0]
        fd = self.fd(node)
        for below in reversed(missing):
            fd = os.open(self._places[id(below)][1], _FLAGS, dir_fd=fd)
            self._open[id(below)] = fd
            if len(self._open) > _MOST:
                os.close(self._open.pop(next(iter(self._open))))
        return fd


@contextmanager
def handles(root: Node, path: str) -> Iterator[Handles]:
    """Open the directory ``path`` as the root of a tree; every descriptor is closed after the block."""
    top = os.open(path, _FLAGS)
    try:
        made = Handles(root, top)
        try:
            yield made
        finally:
            made.close()
    finally:
        os.close(top)
