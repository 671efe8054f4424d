"""Apply layers to a tree (OCI image-spec, layer.md: changesets, whiteouts, hard links).

Nothing here touches a file system: a name like ``../x`` has nothing to act on.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from bootc_live.base.errors import ImageError
from bootc_live.formats.tar.header import NO_XATTRS
from bootc_live.formats.tar.reader import Member, read_members, xattrs_size
from bootc_live.formats.tar.sparse import Extent
from bootc_live.image.verified import VerifiedImage, VerifiedLayer
from bootc_live.rootfs.tree.node import (
    NAME_MAX,
    PARTS,
    PATH_MAX,
    TEXT,
    UNREAD,
    XATTRS,
    Budget,
    Node,
    new_directory,
    resolve,
    split,
)

HINT = "this layer was not made by a sound tool: build the image anew"
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."
# Directories that are remembered by their names.
_MOST_PARENTS = 2**16
_MOST_TIMES = 2**12
_DOTS = frozenset({b"", b".", b".."})
# Attributes of the overlay file system would change what an overlay above shows.
_FOREIGN_XATTR = b"trusted.overlay."
# Not a user or group: for chown(2) it means "leave it unchanged", so that unpacked files stay root's.
_NOBODY = 2**32 - 1
_SPACES = frozenset({b"user.", b"trusted.", b"security.", b"system."})
_NOT_ON = {
    "dir": (),
    "file": (b"system.posix_acl_default",),
    "symlink": (b"user.", b"system.posix_acl_"),
}
_NOT_ON_OTHERS = (b"user.", b"system.posix_acl_default")

Warn = Callable[[str], None]


class LayersRead(Protocol):
    """What was read of layers while they were fetched."""

    def begun(self, image: VerifiedImage) -> tuple[Merging, int]:
        """Return the tree of the first layers of an image, and their number."""

    def members(self, layer: VerifiedLayer) -> Iterator[Member] | None:
        """Return the members of a layer, None if it was not read; raise ValueError as ``read_members``."""


def unsaid(_text: str) -> None:
    """Print nothing."""


def merge(image: VerifiedImage, read: LayersRead | None = None, warn: Warn = unsaid) -> Node:
    """Return the root of the tree that all layers of a verified image make; ``read`` has what was read of them already.

    ``warn`` is told what is left out because Linux does not allow it. Raise ImageError naming the layer and the member
    that cannot be used.
    """
    merging, done = read.begun(image) if read else (Merging(), 0)
    fd = os.open(image.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for number, layer in enumerate(image.layers[done:], done):
            found = read.members(layer) if read else None
            if found is not None:
                _apply(merging, found, layer, number, image.resolved.source_text)
            elif layer.size:
                with mmap.mmap(fd, layer.size, prot=mmap.PROT_READ, offset=layer.offset) as buffer:
                    _apply(merging, read_members(buffer), layer, number, image.resolved.source_text)
    finally:
        os.close(fd)
    merging.tell(warn)
    return merging.root


def _apply(merging: Merging, members: Iterator[Member], layer: VerifiedLayer, number: int, source_text: str) -> None:
    where = ""
    try:
        for member in members:
            where = f"member {member.name[:300].decode(errors='backslashreplace')!r} "
            merging.apply(member, number, layer.offset)
            where = ""
    except ValueError as error:
        raise ImageError(
            f"layer {number} ({layer.diff_id}) of {source_text!r} cannot be used: {where}{error}",
            hint=HINT,
        ) from error


class Merging:
    """The tree of layers, while their members are applied."""

    def __init__(self) -> None:
        """Begin with an empty root."""
        self.root = new_directory()
        self._budget = Budget()
        self._left_out: Counter[str] = Counter()
        self._times: dict[int, int] = {}
        # By kind: the attributes of the last member, the allowed ones, and the rest. Attributes of a global header are
        # one mapping for all members, and stay one.
        self._last: dict[str, tuple[Mapping[bytes, bytes], Mapping[bytes, bytes], Counter[str]]] = {}
        self._begin(0)

    def _begin(self, layer: int) -> None:
        self._layer = layer
        # Directories by the names, as members have them and plain, that led to them in this layer.
        self._parents: dict[bytes, Node] = {}
        # Directories whose lower content this layer has hidden, by identity.
        self._hidden: dict[int, Node] = {}
        # Names that this layer gave to inodes of lower layers, with the identities of their directories' children.
        self._linked: set[tuple[int, bytes]] = set()

    def apply(self, member: Member, layer: int, base: int) -> None:
        """Apply one member of a layer whose tar begins at ``base`` of the data file.

        Raise ValueError, as it follows the member's name.
        """
        if layer != self._layer:
            self._begin(layer)
        self._budget.spend("members")
        self._budget.spend(TEXT, len(member.name) + len(member.link))
        above, _, name = member.name.rpartition(b"/")
        parent = self._parents.get(above)
        if parent is None or _unusual(member.name, name):
            found = self._look_up(member)
            if found is None:
                return
            parent, name = found
        children = parent.directory
        present = children.get(name)
        if member.kind == "dir" and present is not None and present.children is not None:
            self._describe(present, member)
            return
        node = self._link_target(member.link) if member.kind == "hardlink" else self._new(member, base)
        if node.layer < layer:
            self._linked.add((id(children), name))
        if present is node:
            return
        if present is not None and present.kind in ("dir", "symlink"):
            # Names may have been resolved through the inode that is replaced.
            self._parents.clear()
        children[name] = node

    def _look_up(self, member: Member) -> tuple[Node, bytes] | None:
        """Return the directory of a member and its name there; None for the root and whiteouts, which are applied."""
        parts = self._split(member.name)
        if not parts:
            if member.kind != "dir":
                raise ValueError("takes the place of the root directory")
            self._describe(self.root, member)
            return None
        name = parts.pop()
        if name.startswith(_WHITEOUT):
            self._whiteout(parts, name)
            self._parents.clear()
            return None
        if len(self._parents) > _MOST_PARENTS:
            self._parents.clear()
        parent = self._parent(member, parts)
        above, _, last = member.name.rpartition(b"/")
        if name == last:
            self._parents[above] = parent
        return parent, name

    def tell(self, warn: Warn) -> None:
        """Warn of what was left out."""
        for what, count in sorted(self._left_out.items()):
            warn(f"Linux allows no extended {what}: {count} left out")

    def _split(self, path: bytes) -> list[bytes]:
        parts = split(path)
        self._budget.spend(PARTS, len(parts))
        return parts

    def _parent(self, member: Member, parts: list[bytes]) -> Node:
        key = b"/".join(parts)
        found = self._parents.get(key)
        if found is None:
            found = resolve(self.root, parts, self._layer, member.mtime, self._budget)
            self._parents[key] = found
        return found

    def _whiteout(self, parts: list[bytes], name: bytes) -> None:
        target = name[len(_WHITEOUT) :]
        if target in (b"", b".", b".."):
            raise ValueError("is a whiteout of nothing")
        try:
            holder = resolve(self.root, parts, None, budget=self._budget)
        except ValueError:
            # Without such a directory there is nothing to hide, and none is created.
            return
        if name == _OPAQUE:
            if id(holder) not in self._hidden:
                for child in list(holder.directory):
                    self._hide(holder.directory, child)
                self._hidden[id(holder)] = holder
        elif not name.startswith(_AUFS) and target in holder.directory:
            # Files of aufs (.wh..wh.plnk and others) are not content.
            self._hide(holder.directory, target)

    def _hide(self, children: dict[bytes, Node], name: bytes) -> None:
        """Remove a name of lower layers; what this layer put there stays, in any order.

        No directory is walked twice for one layer: everything added afterwards belongs to that layer.
        """
        todo = [(children, name)]
        emptied: list[tuple[dict[bytes, Node], bytes]] = []
        while todo:
            holder, child = todo.pop()
            node = holder[child]
            below = node.children
            if below and id(node) not in self._hidden:
                self._hidden[id(node)] = node
                emptied.append((holder, child))
                todo.extend((below, grandchild) for grandchild in list(below))
            elif not below and self._is_lower(holder, child):
                del holder[child]
        for holder, child in reversed(emptied):
            if not holder[child].children and self._is_lower(holder, child):
                del holder[child]

    def _is_lower(self, children: dict[bytes, Node], name: bytes) -> bool:
        """Return whether a lower layer put a name there."""
        return children[name].layer < self._layer and (id(children), name) not in self._linked

    def _link_target(self, link: bytes) -> Node:
        shown = repr(link.decode(errors="backslashreplace"))
        above, _, name = link.rpartition(b"/")
        parent = self._parents.get(above)
        if parent is None or name in _DOTS or len(link) > NAME_MAX:
            parts = self._split(link)
            if not parts:
                raise ValueError("is a hard link to the root directory")
            name = parts.pop()
            try:
                parent = resolve(self.root, parts, None, budget=self._budget)
            except ValueError as error:
                raise ValueError(f"is a hard link to {shown}, which {error}") from error
        node = parent.directory.get(name)
        if node is None:
            raise ValueError(f"is a hard link to {shown}, which does not exist")
        if node.children is not None:
            raise ValueError(f"is a hard link to the directory {shown}")
        return node

    def _new(self, member: Member, base: int) -> Node:
        node = new_directory() if member.kind == "dir" else Node(kind=member.kind)
        self._describe(node, member)
        if member.kind == "symlink":
            if not member.link or len(member.link) > PATH_MAX:
                raise ValueError(f"is a symbolic link to a name of {len(member.link)} bytes")
            if b"\0" in member.link:
                raise ValueError("is a symbolic link to a name with a NUL byte")
            node.link, node.size, node.mode = member.link, len(member.link), 0o777
        elif member.kind == UNREAD:
            node.link = member.link
        elif member.kind == "file":
            node.size, node.offset = member.size, base + member.offset
            if member.extents is not None:
                self._budget.spend("entries in the maps of sparse files", len(member.extents))
                node.extents = tuple(Extent(part.start, part.length, base + part.data) for part in member.extents)
        elif member.kind in ("char", "block"):
            node.device = member.device
        return node

    def _describe(self, node: Node, member: Member) -> None:
        node.layer, node.mode = self._layer, member.mode
        node.uid = 0 if member.uid == _NOBODY else member.uid
        node.gid = 0 if member.gid == _NOBODY else member.gid
        # Thousands of files have the same time: one number for all.
        if len(self._times) == _MOST_TIMES:
            self._times.clear()
        node.mtime, node.mtime_ns = self._times.setdefault(member.mtime, member.mtime), member.mtime_ns
        if not 0 <= node.uid < 2**32 or not 0 <= node.gid < 2**32:
            raise ValueError(f"belongs to {node.uid}:{node.gid}, which is no user and group")
        if not -(2**63) <= node.mtime < 2**63:
            raise ValueError(f"has the time {node.mtime}, which Linux cannot hold")
        node.xattrs = self._xattrs(member) if member.xattrs else NO_XATTRS

    def _xattrs(self, member: Member) -> Mapping[bytes, bytes]:
        """Return the attributes that Linux allows for such a file, the same in every layout (xattr(7), acl(5))."""
        # Each is counted even if it is shared: labels are added to each file, and the tree layout sets each.
        self._budget.spend(XATTRS, len(member.xattrs))
        last = self._last.get(member.kind)
        if last is None or last[0] is not member.xattrs:
            self._budget.spend(TEXT, xattrs_size(member.xattrs))
            last = self._last[member.kind] = (member.xattrs, *_allowed(member))
        self._left_out.update(last[2])
        return last[1]


def _unusual(path: bytes, name: bytes) -> bool:
    """Return whether the last part of a path, ``name``, needs a closer look."""
    return name in _DOTS or len(path) > NAME_MAX or name.startswith(_WHITEOUT) or b"\0" in name


def _allowed(member: Member) -> tuple[Mapping[bytes, bytes], Counter[str]]:
    """Return the attributes that Linux allows for a member, and count the rest by description."""
    kept, left_out = {}, Counter[str]()
    for name, value in member.xattrs.items():
        space = next((space for space in _NOT_ON.get(member.kind, _NOT_ON_OTHERS) if name.startswith(space)), b"")
        if space:
            left_out[f"attributes {space.decode()}* on a {member.kind}"] += 1
        elif not name or name in _SPACES:
            left_out["attributes without a name"] += 1
        elif not name.startswith(_FOREIGN_XATTR):
            kept[name] = value
    if len(kept) == len(member.xattrs):
        return member.xattrs, left_out
    return kept or NO_XATTRS, left_out
