"""Turn an image's merged tree into that of a live root: what installing the image would have made of it.

Images that ostree makes of its commits (ostree-rs-ext, "container encapsulation") have every file as an object of a
repository first, with its real names as hard links to that; what a machine gets as /etc may lie in /usr/etc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from bootc_live.base.errors import RootfsError
from bootc_live.formats.gvariant import read_xattrs
from bootc_live.rootfs.tree.node import NAME_MAX, Entry, Node, resolve, walk

_OBJECTS = [b"sysroot", b"ostree", b"repo", b"objects"]
_LINK = b"-xattrs-link"
# All attributes of one file, as Linux lists them at the most.
_MOST_ATTRIBUTES = 64 * 2**10
# What the image's system mounts something on before it could make it itself, with their modes.
PLACES = {b"dev": 0o755, b"proc": 0o555, b"run": 0o755, b"sys": 0o555, b"tmp": 0o1777}


def live_tree(root: Node, typed: str, read: Callable[[Node], bytes]) -> None:
    """Change a merged tree in place; ``typed`` is the image, ``read`` gives the content of a file.

    Raises RootfsError for one that cannot be switched to.
    """
    forgotten = _forget_objects(root, typed, read)
    _give_etc(root)
    if forgotten:
        _separate(root, b"etc")
    if b"var" not in root.directory:
        _make_place(root, b"var", 0o755)
    for name, mode in PLACES.items():
        try:
            _make_place(root, name, mode)
        except ValueError as error:
            place = f"/{name.decode()}"
            raise RootfsError(
                f"{typed!r} cannot be switched to: {place} {error}",
                hint=f"build the image with a directory {place}, on which its system mounts something",
            ) from error


def _make_place(root: Node, name: bytes, mode: int) -> None:
    """Make a directory at the top, or where a link there leads; raises ValueError where something is in the way."""
    try:
        resolve(root, [name], None)
    except ValueError:
        resolve(root, [name], 0).mode = mode


def _forget_objects(root: Node, typed: str, read: Callable[[Node], bytes]) -> bool:
    """Remove the objects of a repository whose files have real names, too: their own names only take memory.

    Their extended attributes are objects beside them. Tell whether there were any.
    """
    parent = root
    for name in _OBJECTS:
        entry = (parent.children or {}).get(name)
        if entry is None or entry.node.children is None:
            return False
        parent = entry.node
    objects = {id(node) for node in walk(parent) if node.children is None}
    held = dict(parent.directory)
    parent.directory.clear()
    # A repository that is only carried, for others to install from, stays.
    used = any(id(node) in objects for node in walk(root))
    if used:
        _take_attributes(held, typed, read)
    else:
        parent.directory.update(held)
    return used


def _give_etc(root: Node) -> None:
    """Give a root that has no /etc a copy of /usr/etc."""
    usr = root.directory.get(b"usr")
    source = (usr.node.children or {}).get(b"etc") if usr else None
    if b"etc" in root.directory or source is None or source.node.children is None:
        return
    etc = replace(source.node, children={})
    root.directory[b"etc"] = Entry(etc, source.layer)
    todo = [(source.node, etc)]
    while todo:
        old, new = todo.pop()
        for name, entry in old.directory.items():
            node = entry.node
            if node.children is not None:
                node = replace(node, children={})
                todo.append((entry.node, node))
            new.directory[name] = Entry(node, entry.layer)


def _separate(root: Node, name: bytes) -> None:
    """Make each name below a directory a file of its own: ostree has one object for all files that are equal.

    Files that can be written must not change one another. Their data is not copied here.
    """
    entry = root.directory.get(name)
    todo = [entry.node] if entry and entry.node.children is not None else []
    while todo:
        for below in todo.pop().directory.values():
            if below.node.children is None:
                below.node = replace(below.node)
            else:
                todo.append(below.node)


def _take_attributes(objects: Mapping[bytes, Entry], typed: str, read: Callable[[Node], bytes]) -> None:
    """Give files the attributes that a repository of the mode bare-split-xattrs has for them.

    Those of SUM.file are in SUM.file-xattrs-link, which most often is another name of what many files share.
    """
    known: dict[int, dict[bytes, bytes]] = {}
    for directory in objects.values():
        for name, entry in (directory.node.children or {}).items():
            file = (directory.node.children or {}).get(name.removesuffix(_LINK))
            if not name.endswith(_LINK) or entry.node.kind != "file" or file is None or file.node.kind != "file":
                continue
            if id(entry.node) not in known:
                known[id(entry.node)] = _attributes(entry.node, name, typed, read)
            if known[id(entry.node)]:
                file.node.xattrs = {**known[id(entry.node)], **file.node.xattrs}


def _attributes(node: Node, name: bytes, typed: str, read: Callable[[Node], bytes]) -> dict[bytes, bytes]:
    try:
        if node.size > _MOST_ATTRIBUTES:
            raise ValueError(f"has {node.size} bytes, {_MOST_ATTRIBUTES} are the most there can be")
        found = read_xattrs(read(node))
        for attribute, value in found.items():
            if len(attribute) > NAME_MAX or b"\0" in attribute or len(value) > _MOST_ATTRIBUTES:
                raise ValueError("has an attribute that Linux cannot have")
    except ValueError as error:
        shown = name.decode(errors="backslashreplace")
        raise RootfsError(
            f"{typed!r} has extended attributes of a file in its repository that cannot be read: {shown!r} {error}",
            hint="build the image anew",
        ) from error
    # Labels are those of the policy.
    found.pop(b"security.selinux", None)
    return found
