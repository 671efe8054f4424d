"""Read, compare and copy what is in /etc: by names in open directories, so that no link is ever followed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from bootc_live.system.files import copy_part, write_all

# A FIFO that took the place of a file must not block.
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = _OPEN | os.O_DIRECTORY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
# They follow from the policy of an image, not from what a person changed.
LABELS = frozenset({b"security.selinux", b"security.SMACK64"})
# Of one inode only: the kernel makes them anew.
_PRIVATE = (b"trusted.overlay.", b"security.evm")
_PIECE = 1 << 20

Xattrs = Mapping[bytes, bytes]


@dataclass(frozen=True)
class Entry:
    """A regular file, directory or link: one name in the open directory ``parent``."""

    parent: int
    name: bytes
    status: os.stat_result
    link: bytes
    xattrs: Xattrs

    @property
    def kind(self) -> int:
        """Return the type, as in the mode of stat(2)."""
        return stat.S_IFMT(self.status.st_mode)

    @property
    def is_directory(self) -> bool:
        """Return whether it is a directory."""
        return self.kind == stat.S_IFDIR

    @property
    def is_file(self) -> bool:
        """Return whether it is a regular file."""
        return self.kind == stat.S_IFREG

    @property
    def labels(self) -> dict[bytes, bytes]:
        """Return the security labels."""
        return {name: value for name, value in self.xattrs.items() if name in LABELS}

    @property
    def traits(self) -> tuple[object, ...]:
        """Return what a person may have changed, without data, times and labels."""
        own = {name: value for name, value in self.xattrs.items() if name not in LABELS}
        return self.status.st_mode, self.status.st_uid, self.status.st_gid, self.link, own

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Open it for reading while the block runs; raise OSError."""
        with _closing(os.open(self.name, _DIRECTORY if self.is_directory else _OPEN, dir_fd=self.parent)) as fd:
            yield fd

    def content(self) -> bytes:
        """Return the data of a file; raise OSError."""
        with self.opened() as fd, open(fd, "rb", closefd=False) as file:
            return file.read()


@contextmanager
def top(path: str) -> Iterator[Entry]:
    """Open a directory, which may be a link, as the top of a tree; raise OSError."""
    with _closing(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
        yield Entry(fd, b".", os.fstat(fd), b"", _xattrs(fd, b"."))


@contextmanager
def children(directory: Entry | None, left_out: Callable[[bytes], None] | None = None) -> Iterator[dict[bytes, Entry]]:
    """Return what is in a directory, usable while the block runs; nothing for what is no directory. Raise OSError.

    Sockets, FIFOs and devices count as not there; ``left_out`` is told their names.
    """
    if directory is None or not directory.is_directory:
        yield {}
        return
    found = {}
    with directory.opened() as fd:
        for name in sorted(map(os.fsencode, os.listdir(fd))):
            try:
                entry = _entry(fd, name)
            except FileNotFoundError:
                # A temporary file of a running program.
                continue
            if entry.kind in _KINDS:
                found[name] = entry
            elif left_out is not None:
                left_out(name)
        yield found


def same(one: Entry | None, other: Entry | None) -> bool:
    """Return whether two entries are equal, with all that is in them, but for times and labels; raise OSError."""
    if one is None or other is None:
        return one is other
    if one.traits != other.traits:
        return False
    if one.is_directory:
        with children(one) as ones, children(other) as others:
            return ones.keys() == others.keys() and all(same(ones[name], others[name]) for name in ones)
    return not one.is_file or _same_data(one, other)


class Copier:
    """Makes copies; names of one file become names of one copy."""

    def __init__(self, top_fd: int, warn: Callable[[str], None]) -> None:
        """Write below an open directory; ``warn`` is told what its file system cannot hold."""
        self._top = top_fd
        self._warn = warn
        self._copied: dict[tuple[int, int], bytes] = {}

    def copy(self, entry: Entry, parent: int, path: bytes, labels: Xattrs) -> None:
        """Copy an entry, with all that is in it, to a path below the top; ``parent`` is open. Raise OSError."""
        name, status = os.path.basename(path), entry.status
        if entry.is_directory:
            with new_directory(parent, name) as made, children(entry) as inside:
                for each in inside.values():
                    self.copy(each, made, os.path.join(path, each.name), each.labels)
        elif status.st_nlink > 1 and (first := self._copied.get((status.st_dev, status.st_ino))) is not None:
            # All directories of that path were made here.
            os.link(first, name, src_dir_fd=self._top, dst_dir_fd=parent, follow_symlinks=False)
            return
        elif entry.is_file:
            with entry.opened() as source, new_file(parent, name) as made:
                copy_part(source, 0, os.fstat(source).st_size, made)
        else:
            os.symlink(entry.link, name, dir_fd=parent)
        if status.st_nlink > 1 and not entry.is_directory:
            self._copied[status.st_dev, status.st_ino] = path
        self.describe(entry, parent, name, labels)

    def describe(self, entry: Entry, parent: int, name: bytes, labels: Xattrs) -> None:
        """Give a new file owner, mode, attributes and time of another one; raise OSError."""
        status = entry.status
        os.chown(name, status.st_uid, status.st_gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind != stat.S_IFLNK:
            # It was created here, so it is no link.
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=parent)
        others = {key: value for key, value in entry.xattrs.items() if key not in LABELS}
        for key, value in {**others, **labels}.items():
            try:
                os.setxattr(_by_descriptor(parent, name), key, value, follow_symlinks=False)
            except OSError as error:
                # A file system without them, or a label that the policy of the running system does not know.
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                self._warn(f"the attribute {key.decode(errors='replace')} cannot be stored on this file system")
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=parent, follow_symlinks=False)


@contextmanager
def new_directory(parent: int, name: bytes) -> Iterator[int]:
    """Make and open a directory that only root can enter so far; raise OSError."""
    os.mkdir(name, 0o700, dir_fd=parent)
    with _closing(os.open(name, _DIRECTORY, dir_fd=parent)) as fd:
        yield fd


@contextmanager
def new_file(parent: int, name: bytes, content: bytes = b"") -> Iterator[int]:
    """Make and open a file that only root can read so far; raise OSError."""
    with _closing(os.open(name, _NEW, 0o600, dir_fd=parent)) as fd:
        write_all(fd, content)
        yield fd


@contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def _entry(parent: int, name: bytes) -> Entry:
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    link = os.readlink(name, dir_fd=parent) if stat.S_ISLNK(status.st_mode) else b""
    known = stat.S_IFMT(status.st_mode) in _KINDS
    return Entry(parent, name, status, link, _xattrs(parent, name) if known else {})


def _by_descriptor(parent: int, name: bytes) -> bytes:
    # No such call takes a directory's descriptor; the name has no slash.
    return b"/proc/self/fd/%d/%s" % (parent, name)


def _xattrs(parent: int, name: bytes) -> dict[bytes, bytes]:
    path, found = _by_descriptor(parent, name), {}
    try:
        names = [os.fsencode(each) for each in os.listxattr(path, follow_symlinks=False)]
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return {}
    for each in names:
        if not each.startswith(_PRIVATE):
            found[each] = os.getxattr(path, each, follow_symlinks=False)
    return found


def _same_data(one: Entry, other: Entry) -> bool:
    if one.status.st_size != other.status.st_size:
        return False
    with one.opened() as first, other.opened() as second:
        while True:
            piece = os.read(first, _PIECE)
            if piece != os.read(second, _PIECE):
                return False
            if not piece:
                return True
