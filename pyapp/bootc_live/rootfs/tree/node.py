"""The merged tree of an image, with all layers applied."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from bootc_live.formats.tar.header import NO_XATTRS
from bootc_live.formats.tar.sparse import Extent

# Kernel limits: NAME_MAX, and PATH_MAX without its NUL for paths and link targets.
NAME_MAX = 255
PATH_MAX = 4095
_FOLLOW_MAX = 255

# A regular file whose data was not kept when its layer was read; ``link`` names it.
UNREAD = "unread"

# What a Budget counts for all members.
TEXT, XATTRS, PARTS = "bytes of names, links and attributes", "extended attributes", "parts of paths"


@dataclass(eq=False, slots=True)
class Node:
    """One inode. Directories have ``children``; names that share a node are hard links.

    ``offset`` is where a regular file's data begins in the image's data file;
    ``extents`` replaces it for sparse files, with ``data`` in the same file.
    ``layer`` is the number of the layer that put it there, ``place`` the offset of the inode, set by its writer;
    ``walked`` is set by ``walk``.
    """

    kind: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    mtime_ns: int = 0
    size: int = 0
    offset: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[bytes, bytes] = field(default_factory=lambda: NO_XATTRS)
    extents: tuple[Extent, ...] | None = None
    children: dict[bytes, Node] | None = None
    layer: int = 0
    place: int = 0
    walked: int = 0

    @property
    def directory(self) -> dict[bytes, Node]:
        """The children of a directory; raise ValueError for anything else."""
        if self.children is None:
            raise ValueError("is not a directory")
        return self.children


def new_directory() -> Node:
    """Return an empty directory as it is implied by a path: mode 0755, owned by root."""
    return Node(kind="dir", children={})


def split(path: bytes) -> list[bytes]:
    """Return the components of a path relative to the root.

    Raise ValueError for ``..``, names and paths that are too long, and NUL bytes.
    """
    if len(path) > PATH_MAX:
        raise ValueError(f"has a path of {len(path)} bytes, {PATH_MAX} is the most allowed")
    parts = [part for part in path.split(b"/") if part and part != b"."]
    if b".." in parts:
        raise ValueError("has '..' in its name")
    if len(path) > NAME_MAX or b"\0" in path:
        for part in parts:
            check_name(part)
    return parts


def check_name(part: bytes) -> None:
    """Raise ValueError for an impossible file name."""
    if len(part) > NAME_MAX:
        raise ValueError(f"has a name of {len(part)} bytes, {NAME_MAX} is the most allowed")
    if b"\0" in part or b"/" in part or part in (b"", b".", b".."):
        raise ValueError(f"has a name that no file can have: {_show(part)}")


class Budget:
    """Limits of one image's tree, so that no small layer fills memory or runs forever (SECURITY.md)."""

    MOST: ClassVar[dict[str, int]] = {
        "members": 4 * 2**20,
        "directories that no member is for": 2**20,
        "steps through symbolic links": 8 * 2**20,
        "entries in the maps of sparse files": 2**20,
        # Half a million files, as large images have, come to less than half of these.
        TEXT: 512 * 2**20,
        XATTRS: 8 * 2**20,
        PARTS: 16 * 2**20,
    }

    def __init__(self) -> None:
        """Begin with nothing used."""
        self._left = dict(self.MOST)

    def spend(self, what: str, count: int = 1) -> None:
        """Count something; raise ValueError, as it follows a member's name, if it is too much."""
        self._left[what] -= count
        if self._left[what] < 0:
            raise ValueError(f"is one too many: no image may have more than {self.MOST[what]} {what}")


def resolve(root: Node, parts: list[bytes], layer: int | None, mtime: int = 0, budget: Budget | None = None) -> Node:
    """Return the directory at ``parts``, following links inside the root.

    Missing directories become part of ``layer``; if it is None, they raise ValueError, as other files on the path do.
    """
    budget = Budget() if budget is None else budget
    stack, todo, followed = [root], parts[::-1], 0
    while todo:
        part = todo.pop()
        if part == b"..":
            if len(stack) > 1:
                stack.pop()
            continue
        children = stack[-1].directory
        node = children.get(part)
        if node is None:
            if layer is None:
                raise ValueError(f"needs {_show(part)}, which does not exist")
            # It may come from a link's target, which was not checked.
            check_name(part)
            budget.spend("directories that no member is for")
            node = children[part] = new_directory()
            node.layer, node.mtime = layer, mtime
        if node.kind == "symlink":
            followed += 1
            if followed > _FOLLOW_MAX:
                raise ValueError("leads through too many symbolic links")
            target = node.link
            if target.startswith(b"/"):
                del stack[1:]
            found = [p for p in reversed(target.split(b"/")) if p and p != b"."]
            budget.spend("steps through symbolic links", len(found) + 1)
            todo += found
        elif node.children is None:
            raise ValueError(f"needs {_show(part)} to be a directory, but it is a {node.kind}")
        else:
            stack.append(node)
    return stack[-1]


_walks = itertools.count(1)


def walk(root: Node) -> Iterator[Node]:
    """Yield every inode of the tree once, the root first, children in byte order of their names.

    One walk of a tree ends before the next one begins.
    """
    # A mark in each node takes no memory, as a set of those that were seen would.
    number = next(_walks)
    todo = [root]
    while todo:
        node = todo.pop()
        if node.walked == number:
            continue
        node.walked = number
        yield node
        if node.children:
            todo.extend(node.children[name] for name in sorted(node.children, reverse=True))


def linked(root: Node) -> set[int]:
    """Return the identities of all inodes with several names."""
    number, found, todo = next(_walks), set(), [root]
    while todo:
        for node in todo.pop().directory.values():
            if node.children is not None:
                todo.append(node)
            elif node.walked == number:
                found.add(id(node))
            node.walked = number
    return found


def path_of(root: Node, wanted: Node) -> str:
    """Return a path of an inode from the root, for messages; empty if it is not in the tree."""
    todo = [(b"", root)]
    while todo:
        path, node = todo.pop()
        if node is wanted:
            return _show(path or b"/")
        if node.children:
            todo.extend((path + b"/" + name, below) for name, below in node.children.items())
    return ""


def _show(part: bytes) -> str:
    return repr(part.decode(errors="backslashreplace"))
