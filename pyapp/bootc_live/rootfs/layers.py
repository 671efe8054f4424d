"""Apply layers to a tree (OCI image-spec, layer.md: changesets, whiteouts, hard links).

Nothing here touches a file system: a name like ``../x`` has nothing to act on.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

from bootc_live.base.errors import ImageError
from bootc_live.base.sparse import Extent
from bootc_live.base.tar_format import NO_XATTRS
from bootc_live.base.tar_reader import Member, read_members
from bootc_live.image.verified import VerifiedImage, VerifiedLayer
from bootc_live.rootfs.read_ahead import ReadAhead
from bootc_live.rootfs.tree import PATH_MAX, Entry, Node, new_directory, resolve, split

HINT = "this layer was not made by a sound tool: build the image anew"
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."
# The overlay file system's own notes would change what an overlay above shows.
_FOREIGN_XATTR = b"trusted.overlay."


def merge(image: VerifiedImage, ahead: ReadAhead | None = None) -> Node:
    """Give the root of the tree that all layers of a verified image make; ``ahead`` may have read some already.

    Raises ImageError naming the layer and the member that cannot be used.
    """
    root = new_directory()
    fd = os.open(image.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for number, layer in enumerate(image.layers):
            found = None if ahead is None else ahead.members(layer)
            if found is not None:
                _apply(root, found, layer, number, image.resolved.typed)
            elif layer.size:
                with mmap.mmap(fd, layer.size, prot=mmap.PROT_READ, offset=layer.offset) as buffer:
                    _apply(root, read_members(buffer), layer, number, image.resolved.typed)
    finally:
        os.close(fd)
    return root


def _apply(root: Node, members: Iterator[Member], layer: VerifiedLayer, number: int, typed: str) -> None:
    where = ""
    parents: dict[bytes, Node] = {}
    try:
        for member in members:
            where = f"member {member.name.decode(errors='backslashreplace')!r} "
            apply_member(root, member, number, layer.offset, parents)
            where = ""
    except ValueError as error:
        raise ImageError(
            f"layer {number} ({layer.diff_id}) of {typed!r} cannot be used: {where}{error}",
            hint=HINT,
        ) from error


def apply_member(root: Node, member: Member, layer: int, base: int, parents: dict[bytes, Node]) -> None:
    """Apply one member of a layer whose tar begins at ``base`` of the data file.

    ``parents`` remembers resolved directories by name within one layer. Raises
    ValueError, meant to follow the member's name.
    """
    parts = split(member.name)
    if not parts:
        if member.kind != "dir":
            raise ValueError("takes the place of the root directory")
        _describe(root, member)
        return
    name = parts.pop()
    if name.startswith(_WHITEOUT):
        _whiteout(root, parts, name, layer)
        parents.clear()
        return
    children = _parent(root, member, parts, layer, parents).directory
    present = children.get(name)
    if member.kind == "dir" and present is not None and present.node.children is not None:
        present.layer = layer
        _describe(present.node, member)
        return
    node = _link_target(root, member.link) if member.kind == "hardlink" else _new(member, base)
    if present is not None and present.node is node:
        present.layer = layer
        return
    if present is not None and present.node.kind in ("dir", "symlink"):
        # Names may have been resolved through what goes away now.
        parents.clear()
    children[name] = Entry(node, layer)


def _parent(root: Node, member: Member, parts: list[bytes], layer: int, parents: dict[bytes, Node]) -> Node:
    key = b"/".join(parts)
    found = parents.get(key)
    if found is None:
        found = parents[key] = resolve(root, parts, layer, member.mtime)
    return found


def _whiteout(root: Node, parts: list[bytes], name: bytes, layer: int) -> None:
    target = name[len(_WHITEOUT) :]
    if target in (b"", b".", b".."):
        raise ValueError("is a whiteout of nothing")
    try:
        children = resolve(root, parts, None).directory
    except ValueError:
        # Where there is no such directory, there is nothing to hide, and none is made for it.
        return
    if name == _OPAQUE:
        for child in list(children):
            _hide(children, child, layer)
    elif not name.startswith(_AUFS) and target in children:
        # What aufs kept its books in (.wh..wh.plnk and the like) is not content.
        _hide(children, target, layer)


def _hide(children: dict[bytes, Entry], name: bytes, layer: int) -> None:
    """Remove what lower layers put under a name; what this layer put there stays, in any order."""
    todo = [(children, name)]
    emptied: list[tuple[dict[bytes, Entry], bytes]] = []
    while todo:
        holder, child = todo.pop()
        below = holder[child].node.children
        if below:
            emptied.append((holder, child))
            todo.extend((below, grandchild) for grandchild in list(below))
        elif holder[child].layer < layer:
            del holder[child]
    for holder, child in reversed(emptied):
        entry = holder[child]
        if not entry.node.children and entry.layer < layer:
            del holder[child]


def _link_target(root: Node, link: bytes) -> Node:
    parts = split(link)
    if not parts:
        raise ValueError("is a hard link to the root directory")
    name = parts.pop()
    shown = repr(link.decode(errors="backslashreplace"))
    try:
        entry = resolve(root, parts, None).directory.get(name)
    except ValueError as error:
        raise ValueError(f"is a hard link to {shown}, which {error}") from error
    if entry is None:
        raise ValueError(f"is a hard link to {shown}, which does not exist")
    if entry.node.children is not None:
        raise ValueError(f"is a hard link to the directory {shown}")
    return entry.node


def _new(member: Member, base: int) -> Node:
    node = new_directory() if member.kind == "dir" else Node(kind=member.kind)
    _describe(node, member)
    if member.kind == "symlink":
        if not member.link or len(member.link) > PATH_MAX:
            raise ValueError(f"is a symbolic link to a name of {len(member.link)} bytes")
        node.link, node.size, node.mode = member.link, len(member.link), 0o777
    elif member.kind == "file":
        node.size, node.offset = member.size, base + member.offset
        if member.extents is not None:
            node.extents = tuple(Extent(part.start, part.length, base + part.data) for part in member.extents)
    node.device = member.device
    return node


def _describe(node: Node, member: Member) -> None:
    node.mode, node.uid, node.gid = member.mode, member.uid, member.gid
    node.mtime, node.mtime_ns = member.mtime, member.mtime_ns
    if not 0 <= node.uid < 2**32 or not 0 <= node.gid < 2**32:
        raise ValueError(f"belongs to {node.uid}:{node.gid}, which is no user and group")
    if not -(2**63) <= node.mtime < 2**63:
        raise ValueError(f"has the time {node.mtime}, which Linux cannot hold")
    kept = {key: value for key, value in member.xattrs.items() if not key.startswith(_FOREIGN_XATTR)}
    node.xattrs = kept or NO_XATTRS
