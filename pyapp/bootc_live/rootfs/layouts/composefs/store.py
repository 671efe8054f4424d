"""Add to the store of a disk: contents of files as objects, and the metadata images that refer to them.

Nothing gets its name before all of it is on the disk: everything new is written to a directory beside, then
synchronised at once, then renamed. A power cut leaves that directory, which the next writer removes, or more objects
than are needed.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from bootc_live.base.errors import RootfsError, about
from bootc_live.formats.fsverity import VerityHasher, verity_digest
from bootc_live.rootfs.layouts.composefs.metadata import object_path
from bootc_live.rootfs.tree.node import Node
from bootc_live.system import fsverity
from bootc_live.system.cleanup.directories import remove_entries, remove_tree
from bootc_live.system.cleanup.new_results import disk_full_hint
from bootc_live.system.files import copy_part, space_for, sync_filesystem, write_all

OBJECTS, IMAGES = "objects", "images"
# The beginning of names of what is not finished.
UNFINISHED = "new."
_MODE = 0o444
_STEP = 2**20
# Each waits for the disk most of the time.
_THREADS = 16
_CUT = "has data beyond the end of its layer"


def image_path(store: str, digest: str) -> str:
    """Return the path of the metadata image with a digest."""
    return os.path.join(store, IMAGES, f"{digest}.erofs")


def content_digest(fd: int, size: int) -> str:
    """Return the fs-verity digest of the first ``size`` bytes of a file; raise OSError."""
    return node_digest(fd, Node(kind="file", size=size))


def node_digest(fd: int, node: Node) -> str:
    """Return the fs-verity digest of a file whose data is in a data file; raise ValueError if that ends too early."""
    hasher = VerityHasher()
    buffer = memoryview(bytearray(min(_STEP, node.size)))
    for start, offset, length in _parts(node):
        hasher.skip(start - hasher.size)
        done = 0
        while done < length:
            count = os.preadv(fd, [buffer[: length - done]], offset + done)
            if not count:
                raise ValueError(_CUT)
            hasher.update(buffer[:count])
            done += count
    hasher.skip(node.size - hasher.size)
    return hasher.digest()


def small_content(fd: int, node: Node) -> bytes:
    """Return the content of a file whose data is in a data file; raise ValueError if that ends too early."""
    if node.extents is None:
        content = os.pread(fd, node.size, node.offset)
    else:
        sparse = bytearray(node.size)
        for part in node.extents:
            sparse[part.start : part.start + part.length] = os.pread(fd, part.length, part.data)
        content = bytes(sparse)
    if len(content) != node.size:
        raise ValueError(_CUT)
    return content


class StoreWriter:
    """Adds to a store. Use ``store_writer``.

    ``obstacle`` tells why files cannot be protected by fs-verity; it is empty if they are. ``added`` counts contents of
    files that were not there, ``added_bytes`` their bytes.
    """

    def __init__(self, store: str, directory: str) -> None:
        """Write to a directory in the store first."""
        self.obstacle = fsverity.obstacle(directory)
        self.added = self.added_bytes = 0
        self._store, self._directory = store, directory
        # Where what was written belongs, by its digest.
        self._written: dict[str, str] = {}
        self._known = set[str]()

    def add(self, fd: int, node: Node, used: Collection[str] = ()) -> str:
        """Add the content of a file whose data is in a data file, and return its digest; raise ValueError, OSError.

        An object that is there is read, unless it is one of ``used``, and replaced if the disk has changed it.
        """
        small = node.size <= _STEP and node.extents is None
        # Most files are so small: they are read once.
        content = small_content(fd, node) if small else None
        digest = node_digest(fd, node) if content is None else verity_digest(content)
        target = os.path.join(self._store, OBJECTS, object_path(digest))
        if digest not in self._known and not self._present(target, digest, node.size, used):
            self._write(fd, node, digest, content)
            self._written[digest] = target
            self.added += 1
            self.added_bytes += node.size
        self._known.add(digest)
        return digest

    def add_written(self, write: Callable[[int], None]) -> str:
        """Add what a function writes to a new file, whose descriptor it gets, and return its digest; raise OSError."""
        path = os.path.join(self._directory, "written")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        try:
            write(fd)
            size = os.fstat(fd).st_size
            digest = content_digest(fd, size)
            # Whatever the umask is.
            os.fchmod(fd, _MODE)
        finally:
            os.close(fd)
        target = os.path.join(self._store, OBJECTS, object_path(digest))
        if digest in self._known or self._present(target, digest, size):
            os.unlink(path)
        else:
            os.rename(path, os.path.join(self._directory, digest))
            self._written[digest] = target
        self._known.add(digest)
        return digest

    def add_image(self, fd: int) -> str:
        """Add a whole file as a metadata image, and return its digest; raise OSError."""
        node = Node(kind="file", size=os.fstat(fd).st_size)
        digest = node_digest(fd, node)
        target = image_path(self._store, digest)
        # That of the running root is in use: replaced, it would keep the file system from being unmounted.
        if self.obstacle or not self._present(target, digest, node.size):
            self._write(fd, node, digest)
            self._written[digest] = target
        return digest

    def commit(self) -> None:
        """Give everything its name, in the order in which it was added; it is on the disk then.

        Raise OSError, and RootfsError if the kernel measures another digest.
        """
        with _opened(self._store) as fd:
            if not self.obstacle:
                with ThreadPoolExecutor(_THREADS, "fs-verity") as pool:
                    # Raises the first error.
                    all(pool.map(self._protect, self._written))
            sync_filesystem(fd)
            for directory in {os.path.dirname(target) for target in self._written.values()}:
                os.makedirs(directory, exist_ok=True)
            for digest, target in self._written.items():
                os.rename(os.path.join(self._directory, digest), target)
            sync_filesystem(fd)

    def _present(self, target: str, digest: str, size: int, used: Collection[str] = ()) -> bool:
        """Return whether an object is there; it must be protected if possible, because the root may require that."""
        try:
            if self.obstacle and digest in used:
                found = os.lstat(target)
                return stat.S_ISREG(found.st_mode) and found.st_size == size
            with _opened(target) as fd:
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                    return False
                if not self.obstacle:
                    fsverity.enable(fd)
                    if fsverity.measure(fd) != digest:
                        return False
                return digest in used or content_digest(fd, size) == digest
        except OSError:
            # Whatever prevents a new one will be an error then.
            return False

    def _write(self, fd: int, node: Node, digest: str, content: bytes | None = None) -> None:
        """Write a file, whose ``content`` may have been read already."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(os.path.join(self._directory, digest), flags, _MODE)
        try:
            if content is not None:
                write_all(target, content)
            for start, offset, length in _parts(node) if content is None else ():
                if start:
                    os.lseek(target, start, os.SEEK_SET)
                copy_part(fd, offset, length, target)
            if node.extents is not None:
                os.ftruncate(target, node.size)
            # Whatever the umask is.
            os.fchmod(target, _MODE)
        finally:
            os.close(target)

    def _protect(self, digest: str) -> bool:
        with _opened(os.path.join(self._directory, digest)) as fd:
            obstacle = fsverity.enable(fd)
            measured = fsverity.measure(fd)
        if measured != digest:
            raise RootfsError(
                f"a file of {self._store} was written with the digest {digest}, and has {measured} ({obstacle})",
                hint="memory or disk of this machine are damaged; look at the kernel log (dmesg)",
            )
        return True


@contextmanager
def store_writer(store: str) -> Iterator[StoreWriter]:
    """Yield a writer for a store, which is made if missing; what it did not commit is removed.

    Raise OutOfMemoryError if the file system is full, and RootfsError if another process changes the store, or if it
    cannot be written.
    """
    with _write_errors(store):
        os.makedirs(store, 0o700, exist_ok=True)
        for name in (OBJECTS, IMAGES):
            os.makedirs(os.path.join(store, name), exist_ok=True)
        with locked(store), _opened(store) as top:
            # Of runs that a power cut ended.
            remove_entries(store, [name for name in os.listdir(store) if name.startswith(UNFINISHED)])
            directory = os.path.join(store, f"{UNFINISHED}{os.urandom(8).hex()}")
            os.mkdir(directory, 0o700)
            try:
                with disk_full_hint(store), about(f"the store {store!r}"), space_for(top):
                    yield StoreWriter(store, directory)
            finally:
                remove_tree(directory)


@contextmanager
def locked(store: str) -> Iterator[None]:
    """Keep others from changing a store for the block; raise RootfsError if one does already, or if it is missing."""
    with _write_errors(store), _opened(os.path.join(store, OBJECTS)) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RootfsError(f"another process changes {store!r}", hint="try again when it has ended") from error
        yield


@contextmanager
def _write_errors(store: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RootfsError(
            f"the store {store!r} cannot be changed: {error.strerror}",
            hint="check that its file system is mounted writable; look at the kernel log (dmesg)",
        ) from error


@contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _parts(node: Node) -> Iterator[tuple[int, int, int]]:
    """Yield (position in the file, place in the data file, length) of what is not a hole."""
    if node.extents is None:
        yield 0, node.offset, node.size
    else:
        yield from ((part.start, part.data, part.length) for part in node.extents)
