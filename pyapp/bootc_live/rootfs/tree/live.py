"""Turn an image's merged tree into that of a live root, as an installation of the image would have it.

Images of ostree commits (ostree-rs-ext, "container encapsulation") have every file as an object of a repository first,
and its real names as hard links to that; the machine's /etc may be in /usr/etc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from bootc_live.base.errors import RootfsError
from bootc_live.formats.gvariant import read_xattrs
from bootc_live.rootfs.tree.node import NAME_MAX, Node, resolve, walk

_OBJECTS = [b"sysroot", b"ostree", b"repo", b"objects"]
_LINK = b"-xattrs-link"
# All attributes of one file: the most that Linux lists.
_MOST_ATTRIBUTES = 64 * 2**10
# Mount points that the image's system needs before it could create them, with their modes.
PLACES = {b"dev": 0o755, b"proc": 0o555, b"run": 0o755, b"sys": 0o555, b"tmp": 0o1777}


def live_tree(root: Node, source_text: str, read: Callable[[Node], bytes]) -> None:
    """Change a merged tree in place; ``source_text`` is the image as typed, ``read`` returns the content of a file.

    Raise RootfsError for a tree that cannot be switched to.
    """
    forgotten = _forget_objects(root, source_text, read)
    _copy_etc(root)
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
                f"{source_text!r} cannot be switched to: {place} {error}",
                hint=f"build the image with a directory {place}, on which its system mounts something",
            ) from error


def _make_place(root: Node, name: bytes, mode: int) -> None:
    """Make a directory at the top, or at the target of a link there; raise ValueError if that is impossible."""
    try:
        resolve(root, [name], None)
    except ValueError:
        resolve(root, [name], 0).mode = mode


def _forget_objects(root: Node, source_text: str, read: Callable[[Node], bytes]) -> bool:
    """Remove the objects of a repository whose files also have real names, and return whether there were any.

    Their extended attributes are objects beside them.
    """
    parent = root
    for name in _OBJECTS:
        below = (parent.children or {}).get(name)
        if below is None or below.children is None:
            return False
        parent = below
    objects = {id(node) for node in walk(parent) if node.children is None}
    held = dict(parent.directory)
    parent.directory.clear()
    # A repository without real names is kept: it is for others to install from.
    used = any(id(node) in objects for node in walk(root))
    if used:
        _set_attributes(held, source_text, read)
    else:
        parent.directory.update(held)
    return used


def _copy_etc(root: Node) -> None:
    """Copy /usr/etc to /etc in a root without /etc."""
    usr = root.directory.get(b"usr")
    source = (usr.children or {}).get(b"etc") if usr else None
    if b"etc" in root.directory or source is None or source.children is None:
        return
    etc = root.directory[b"etc"] = replace(source, children={})
    todo = [(source, etc)]
    while todo:
        old, new = todo.pop()
        for name, node in old.directory.items():
            new.directory[name] = node
            if node.children is not None:
                copy = new.directory[name] = replace(node, children={})
                todo.append((node, copy))


def _separate(root: Node, name: bytes) -> None:
    """Make each name below a directory a file of its own: ostree has one object for all equal files.

    Writing to one file must not change others. Their data is not copied here.
    """
    top = root.directory.get(name)
    todo = [top.children] if top and top.children is not None else []
    while todo:
        children = todo.pop()
        for below, node in children.items():
            if node.children is None:
                children[below] = replace(node)
            else:
                todo.append(node.children)


def _set_attributes(objects: Mapping[bytes, Node], source_text: str, read: Callable[[Node], bytes]) -> None:
    """Set the attributes of files from a repository of the mode bare-split-xattrs.

    Those of SUM.file are in SUM.file-xattrs-link, usually a link that many files share.
    """
    known: dict[int, dict[bytes, bytes]] = {}
    for directory in objects.values():
        for name, node in (directory.children or {}).items():
            file = (directory.children or {}).get(name.removesuffix(_LINK))
            if not name.endswith(_LINK) or node.kind != "file" or file is None or file.kind != "file":
                continue
            if id(node) not in known:
                known[id(node)] = _attributes(node, name, source_text, read)
            if known[id(node)]:
                file.xattrs = {**known[id(node)], **file.xattrs}


def _attributes(node: Node, name: bytes, source_text: str, read: Callable[[Node], bytes]) -> dict[bytes, bytes]:
    try:
        if node.size > _MOST_ATTRIBUTES:
            raise ValueError(f"has {node.size} bytes, {_MOST_ATTRIBUTES} are the most allowed")
        found = read_xattrs(read(node))
        for attribute, value in found.items():
            if len(attribute) > NAME_MAX or b"\0" in attribute or len(value) > _MOST_ATTRIBUTES:
                raise ValueError("has an attribute that Linux cannot have")
    except ValueError as error:
        shown = name.decode(errors="backslashreplace")
        raise RootfsError(
            f"{source_text!r} has extended attributes of a file in its repository that cannot be read: "
            f"{shown!r} {error}",
            hint="build the image anew",
        ) from error
    # Labels come from the policy.
    found.pop(b"security.selinux", None)
    return found
