"""Write the real files of a merged tree, below one open directory and nowhere else."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bootc_live.formats.erofs.structures import TYPES, device_number, xattr_body
from bootc_live.rootfs.tree.data import Data, begin_of, span
from bootc_live.rootfs.tree.merge import Warn
from bootc_live.rootfs.tree.node import Node, linked, path_of

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Modes for calls that create something; the others are set once the owner is right.
_PLAIN = 0o1777
# Only chmod sets these: mkdir(2) drops them, chown(2) removes two of them.
_SPECIAL = 0o6000
# Far below the 1024 descriptors that a process may have open by default.
_MOST_OPEN = 256
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNKNOWN = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP})
_TOO_LARGE = frozenset({errno.ENOSPC, errno.E2BIG, errno.ERANGE})
_LARGE = 3000
_NANO = 1_000_000_000


def write_files(root: Node, directory: str, data_fd: int, warn: Warn, kept: Iterable[Node] = ()) -> None:
    """Write the files of a merged tree to an empty directory; the data file is used up but for that of ``kept``.

    ``warn`` is told what the file system does not support. Raise OSError, with the path in the tree as its file name,
    and ValueError that begins with that path for what Linux cannot represent.
    """
    with _open_directories(root, directory) as directories, _umask(0):
        writer = _Writer(root, directories, Data(data_fd, kept))
        try:
            writer.write()
        except ValueError as error:
            raise ValueError(f"{path_of(root, writer.at)} {error}") from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, path_of(root, writer.at)) from error
    for space, count in sorted(writer.refused.items()):
        warn(f"the file system of the files does not support extended attributes {space}.*: {count} left out")


class _Directories:
    """Descriptors of directories, opened one name at a time from the top; those used last stay open.

    Nothing of an image is ever resolved as a path.
    """

    def __init__(self, root: Node, top: int) -> None:
        self._root = root
        self._top = top
        self._places: dict[int, tuple[Node, bytes]] = {}
        self._open: dict[int, int] = {}

    def add(self, node: Node, parent: Node, name: bytes) -> None:
        """Remember where a directory is."""
        self._places[id(node)] = (parent, name)

    def fd(self, node: Node) -> int:
        """Return the descriptor of a directory, valid until the next call; raise OSError."""
        if node is self._root:
            return self._top
        found = self._open.pop(id(node), None)
        if found is None:
            return self._reopened(node)
        # The first ones are closed first.
        self._open[id(node)] = found
        return found

    def place(self, node: Node) -> tuple[int, bytes]:
        """Return the descriptor of a directory's parent, valid until the next call, and the directory's name there."""
        parent, name = self._places[id(node)]
        return self.fd(parent), name

    def close(self) -> None:
        """Close all descriptors."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _reopened(self, node: Node) -> int:
        missing = []
        while node is not self._root and id(node) not in self._open:
            missing.append(node)
            node = self._places[id(node)][0]
        fd = self.fd(node)
        for below in reversed(missing):
            fd = os.open(self._places[id(below)][1], _OPEN_DIRECTORY, dir_fd=fd)
            self._open[id(below)] = fd
            if len(self._open) > _MOST_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
        return fd


@contextmanager
def _open_directories(root: Node, path: str) -> Iterator[_Directories]:
    """Open the directory ``path`` as the root of a tree; close every descriptor after the block."""
    top = os.open(path, _OPEN_DIRECTORY)
    try:
        directories = _Directories(root, top)
        try:
            yield directories
        finally:
            directories.close()
    finally:
        os.close(top)


@dataclass(eq=False, slots=True)
class _Place:
    """One name of an inode."""

    node: Node
    parent: Node
    name: bytes


class _Writer:
    """Writes one tree; ``at`` is the inode in work, ``refused`` counts attributes by name space."""

    def __init__(self, root: Node, directories: _Directories, data: Data) -> None:
        self.at = root
        self.refused: Counter[str] = Counter()
        self._root = root
        self._parents = directories
        self._data = data
        # The first names of inodes with several names.
        self._linked = linked(root)
        self._first: dict[int, _Place] = {}
        self._directories: list[Node] = []
        self._full: list[_Place] = []
        self._links: list[_Place] = []

    def write(self) -> None:
        """Write everything; raise OSError, and ValueError for what Linux cannot represent."""
        self._skeleton()
        self._contents()
        for link in self._links:
            self._link(link)
        # Last, because everything that is created in a directory changes its time.
        for node in reversed(self._directories):
            self.at = node
            parent, name = self._parents.place(node)
            self._describe_entry(node, name, parent)
        self.at = self._root
        self._describe_top(self._root, self._parents.fd(self._root))

    def _skeleton(self) -> None:
        """Create all directories, and everything without data."""
        todo = [self._root]
        while todo:
            self.at = parent = todo.pop()
            fd = self._parents.fd(parent)
            for name, node in parent.directory.items():
                self.at = node
                if node.xattrs:
                    # Raises the same error in every layout.
                    xattr_body(node.xattrs)
                if node.children is not None:
                    os.mkdir(name, node.mode & _PLAIN, dir_fd=fd)
                    self._parents.add(node, parent, name)
                    self._directories.append(node)
                    todo.append(node)
                elif id(node) in self._first:
                    self._links.append(_Place(node, parent, name))
                else:
                    place = _Place(node, parent, name)
                    if id(node) in self._linked:
                        self._first[id(node)] = place
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
                self._describe_file(node, fd)
            finally:
                os.close(fd)
            return
        if node.kind == "symlink":
            os.symlink(node.link, name, dir_fd=parent)
        else:
            device = 0
            if node.kind in ("char", "block"):
                # Raises for numbers that would become another device.
                device_number(*node.device)
                device = os.makedev(*node.device)
            os.mknod(name, TYPES[node.kind][0] | node.mode & _PLAIN, device, dir_fd=parent)
        self._describe_entry(node, name, parent)

    def _contents(self) -> None:
        """Create the files with data, in the order of the data file."""
        self._full.sort(key=lambda place: begin_of(place.node))
        self._data.drop_garbage(place.node for place in self._full)
        for number, place in enumerate(self._full, 1):
            self.at = node = place.node
            # If a layer occurs twice, two files share their data: the next one may begin where this one does.
            needed = begin_of(self._full[number].node) if number < len(self._full) else span(node)[1]
            fd = os.open(place.name, _NEW, node.mode & _PLAIN, dir_fd=self._parents.fd(place.parent))
            try:
                self._data.copy(node, fd, needed)
                self._describe_file(node, fd)
            finally:
                os.close(fd)

    def _link(self, link: _Place) -> None:
        """Create one more name of an inode."""
        self.at = link.node
        first = self._first[id(link.node)]
        # Opening the second directory may close the first.
        source = os.dup(self._parents.fd(first.parent))
        try:
            target = self._parents.fd(link.parent)
            os.link(first.name, link.name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(source)

    def _describe_file(self, node: Node, fd: int) -> None:
        """Set owner, special bits, attributes and time of a new regular file."""
        if node.uid or node.gid:
            os.fchown(fd, node.uid, node.gid)
        if node.mode & _SPECIAL:
            os.fchmod(fd, node.mode)
        if node.xattrs:
            self._xattrs(node, fd, follow=True)
        time = node.mtime * _NANO + node.mtime_ns
        os.utime(fd, ns=(time, time))

    def _describe_entry(self, node: Node, name: bytes, parent: int) -> None:
        """Do the same for anything else in the open directory ``parent``, without following links."""
        if node.uid or node.gid:
            os.chown(name, node.uid, node.gid, dir_fd=parent, follow_symlinks=False)
        if node.mode & _SPECIAL and node.kind != "symlink":
            os.chmod(name, node.mode, dir_fd=parent)
        if node.xattrs:
            # No such call takes a directory's descriptor; the name has no slash.
            self._xattrs(node, os.fsencode(f"/proc/self/fd/{parent}/") + name, follow=False)
        time = node.mtime * _NANO + node.mtime_ns
        os.utime(name, ns=(time, time), dir_fd=parent, follow_symlinks=False)

    def _describe_top(self, node: Node, fd: int) -> None:
        """Do the same for the root directory, which was not created here."""
        os.fchown(fd, node.uid, node.gid)
        os.fchmod(fd, node.mode)
        self._xattrs(node, fd, follow=True)
        time = node.mtime * _NANO + node.mtime_ns
        os.utime(fd, ns=(time, time))

    def _xattrs(self, node: Node, path: int | bytes, *, follow: bool) -> None:
        for name, value in node.xattrs.items():
            try:
                os.setxattr(path, name, value, follow_symlinks=follow)
            except OSError as error:
                # A host with SELinux refuses labels that its own policy does not know.
                if error.errno in _UNKNOWN or (error.errno == errno.EINVAL and name == b"security.selinux"):
                    self.refused[name.partition(b".")[0].decode(errors="backslashreplace")] += 1
                elif error.errno in _TOO_LARGE and (size := sum(map(len, node.xattrs.values()))) >= _LARGE:
                    # ext4 has one block for all attributes of an inode, and reports that there is no space.
                    raise OSError(
                        errno.E2BIG, f"{size} bytes of extended attributes are more than the file system holds"
                    ) from error
                else:
                    raise


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
