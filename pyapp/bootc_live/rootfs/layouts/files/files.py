"""Make real files of a merged tree, below one open directory and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bootc_live.formats.erofs.structures import TYPES, device_number, xattr_body
from bootc_live.rootfs.layouts.files.attributes import Attributes
from bootc_live.rootfs.layouts.files.handles import Handles
from bootc_live.rootfs.tree.data import Data, span
from bootc_live.rootfs.tree.node import Node

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# The modes that calls which make something take; the rest comes once the owner is right.
_PLAIN = 0o1777


@dataclass(eq=False, slots=True)
class _Place:
    """Where a name stands."""

    node: Node
    parent: Node
    name: bytes


class Files:
    """One tree on its way; ``write`` does it all, and ``at`` is the inode it is about."""

    def __init__(self, root: Node, handles: Handles, data: Data) -> None:
        """Take a merged tree, the directory for it, and where its files' data lies."""
        self.at = root
        self.attributes = Attributes()
        self._root = root
        self._handles = handles
        self._data = data
        self._first: dict[int, _Place] = {}
        self._directories: list[Node] = []
        self._full: list[_Place] = []
        self._links: list[_Place] = []

    def write(self) -> None:
        """Make everything. Raises OSError, and ValueError for what Linux cannot have."""
        with _umask(0):
            self._skeleton()
            self._contents()
            for link in self._links:
                self._link(link)
            # Last, because everything that is made in a directory gives it a new time.
            for node in reversed(self._directories):
                self.at = node
                parent, name = self._handles.place(node)
                self.attributes.of_entry(node, name, parent)
            self.at = self._root
            self.attributes.of_top(self._root, self._handles.fd(self._root))

    def _skeleton(self) -> None:
        """Make all directories, and what has no data."""
        todo = [self._root]
        while todo:
            self.at = parent = todo.pop()
            fd = self._handles.fd(parent)
            for name, entry in parent.directory.items():
                self.at = node = entry.node
                if node.xattrs:
                    # What no file system can hold is told in the same words for every layout.
                    xattr_body(node.xattrs)
                if node.children is not None:
                    os.mkdir(name, node.mode & _PLAIN, dir_fd=fd)
                    self._handles.add(node, parent, name)
                    self._directories.append(node)
                    todo.append(node)
                elif id(node) in self._first:
                    self._links.append(_Place(node, parent, name))
                else:
                    self._first[id(node)] = place = _Place(node, parent, name)
                    if node.kind == "file" and span(node)[1]:
                        self._full.append(place)
                    else:
                        self._without_data(node, name, fd)

    def _without_data(self, node: Node, name: bytes, parent: int) -> None:
        if node.kind == "file":
            fd = os.open(name, _NEW, node.mode & _PLAIN, dir_fd=parent)
            try:
                if node.size:
                    os.ftruncate(fd, node.size)
                self.attributes.of_file(node, fd)
            finally:
                os.close(fd)
            return
        if node.kind == "symlink":
            os.symlink(node.link, name, dir_fd=parent)
        else:
            device = 0
            if node.kind in ("char", "block"):
                # Refuses what would become another device.
                device_number(*node.device)
                device = os.makedev(*node.device)
            os.mknod(name, TYPES[node.kind][0] | node.mode & _PLAIN, device, dir_fd=parent)
        self.attributes.of_entry(node, name, parent)

    def _contents(self) -> None:
        """Make the files that have data, in the order in which it lies in the data file."""
        spans = sorted((*span(place.node), index) for index, place in enumerate(self._full))
        self._data.drop_garbage([(begin, end) for begin, end, _ in spans])
        # Where the same layer is there twice, two files share their data: the next one may begin where this one does.
        needed = [begin for begin, _, _ in spans[1:]] + [spans[-1][1]] if spans else []
        for (_, _, index), after in zip(spans, needed, strict=True):
            place = self._full[index]
            self.at = node = place.node
            fd = os.open(place.name, _NEW, node.mode & _PLAIN, dir_fd=self._handles.fd(place.parent))
            try:
                self._data.copy(node, fd, after)
                self.attributes.of_file(node, fd)
            finally:
                os.close(fd)

    def _link(self, link: _Place) -> None:
        """Give an inode one more name."""
        self.at = link.node
        first = self._first[id(link.node)]
        # Looking up the second directory may close the first.
        source = os.dup(self._handles.fd(first.parent))
        try:
            target = self._handles.fd(link.parent)
            os.link(first.name, link.name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(source)


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
