"""Copy file data out of the verified data file, and free its memory meanwhile."""

from __future__ import annotations

import errno
import mmap
import os
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from bootc_live.base.errors import RootfsError
from bootc_live.formats.fsverity import VerityHasher
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.tree.node import Node
from bootc_live.source.interface import KeptContent
from bootc_live.system.files import punch_hole, space_for, write_at

# At most this much is in memory twice; smaller steps cost more calls.
_BATCH = 2**20
# Unused data of this size is freed before the copying begins; less is not worth a call.
_WORTH_A_CALL = 64 * 2**10
# The data file may span terabytes, most of them holes: some machines have no addresses for that.
_MOST_AT_ONCE = 2**30
# The kernel cannot copy between these two file systems.
_ELSEWHERE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

_REPAIR = "repair it with: bootc-live fsck --repair"

# Begin and end of data in the data file.
_Span = tuple[int, int]


@contextmanager
def content_reader(image: VerifiedImage) -> Iterator[Callable[[Node], bytes]]:
    """Yield a function that returns the content of a file of an image; raise OSError."""
    fd = os.open(image.path, os.O_RDONLY | os.O_CLOEXEC)

    def read(node: Node) -> bytes:
        if left_out(image, node):
            fill(image, [(node.offset, node.size)])
        if node.extents is None:
            return os.pread(fd, node.size, node.offset)
        content = bytearray(node.size)
        for part in node.extents:
            content[part.start : part.start + part.length] = os.pread(fd, part.length, part.data)
        return bytes(content)

    try:
        yield read
    finally:
        os.close(fd)


def left_out(image: VerifiedImage, node: Node) -> KeptContent | None:
    """Return the file that has the content of a file; None if that is in the data file."""
    for layer in image.layers if node.extents is None else ():
        if layer.offset <= node.offset < layer.offset + layer.size:
            return layer.left_out.get((node.offset, node.size))
    return None


def fill_files(image: VerifiedImage, nodes: Iterable[Node]) -> None:
    """Copy contents of files that were left out to the data file; raise as ``fill``."""
    fill(image, [(node.offset, node.size) for node in nodes if node.kind == "file" and left_out(image, node)])


def fill(image: VerifiedImage, places: Iterable[tuple[int, int]]) -> None:
    """Copy contents that were left out to the data file, by offset and size there.

    Raise RootfsError for one that has changed or cannot be read, OSError and OutOfMemoryError.
    """
    known = {place: kept for layer in image.layers for place, kept in layer.left_out.items()}
    data = os.open(image.path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for place in places:
            hasher, at = VerityHasher(), place[0]
            for piece in _pieces(known[place].path):
                hasher.update(piece)
                with space_for(data):
                    at = write_at(data, at, piece)
            if hasher.digest() != known[place].digest:
                raise RootfsError(f"{known[place].path!r} has changed", hint=_REPAIR)
    finally:
        os.close(data)


def _pieces(path: str) -> Iterator[bytes]:
    try:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(_BATCH):
                yield piece
    except OSError as error:
        raise RootfsError(f"{path!r} cannot be read: {error.strerror}", hint=_REPAIR) from error


class Data:
    """The data file while it is emptied: files must be copied in the order of their data."""

    def __init__(self, fd: int, kept: Iterable[Node] = ()) -> None:
        """Empty the data file ``fd``, open for reading and writing, but for the data of the files ``kept``."""
        self._fd = fd
        self._kept = _joined(_spans(kept))
        self._freed = 0
        self._in_kernel = hasattr(os, "copy_file_range")

    def drop_garbage(self, files: Iterable[Node]) -> None:
        """Free all but the data of ``files`` and of those kept, such as files of lower layers that upper ones hide."""
        needed = _joined(_spans(files))
        self._freed = needed[0][0] // mmap.PAGESIZE * mmap.PAGESIZE if needed else 0
        for begin, end in _gaps(_joined(sorted([*self._kept, *needed])), 0, os.fstat(self._fd).st_size):
            self._punch(begin, end)

    def copy(self, node: Node, target: int, needed: int) -> None:
        """Copy a file's data to a new file, and free it up to byte ``needed`` of the data file, which others need.

        Holes stay holes. Raise OSError, and ValueError if the data file ends too early.
        """
        if node.extents is None:
            self._copy(node.offset, 0, node.size, target, needed)
            return
        for extent in node.extents:
            self._copy(extent.data, extent.start, extent.length, target, needed)
        os.ftruncate(target, node.size)

    def _copy(self, source: int, start: int, length: int, target: int, needed: int) -> None:
        end = source + length
        while source < end:
            count = self._move(source, start, min(end - source, _BATCH), target)
            if not count:
                raise ValueError("has data beyond the end of its layer")
            source += count
            start += count
            # Only whole pages can be freed: the last one is left for the next time.
            free = min(source, needed) // mmap.PAGESIZE * mmap.PAGESIZE
            if free - self._freed >= _BATCH:
                for begin, end_of_gap in _gaps(self._kept, self._freed, free):
                    self._punch(begin, end_of_gap)
                self._freed = free

    def _move(self, source: int, start: int, count: int, target: int) -> int:
        if self._in_kernel:
            try:
                return os.copy_file_range(self._fd, target, count, source, start)
            except OSError as error:
                if error.errno not in _ELSEWHERE:
                    raise
                self._in_kernel = False
        os.lseek(target, start, os.SEEK_SET)
        return os.sendfile(target, self._fd, source, count)

    def _punch(self, begin: int, end: int) -> None:
        # Most of the file is a hole, of which each call would cost time.
        while begin < end and (begin := _data_from(self._fd, begin, end)) < end:
            count = min(end - begin, _MOST_AT_ONCE)
            punch_hole(self._fd, begin, count)
            begin += count


def _data_from(fd: int, begin: int, end: int) -> int:
    """Return where data begins in a part of a file, ``end`` if it has none."""
    try:
        return os.lseek(fd, begin, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return end


def _spans(nodes: Iterable[Node]) -> Iterator[_Span]:
    """Yield where the data of regular files is, in order."""
    # Sorted before spans are made, which take more memory.
    return map(span, sorted((node for node in nodes if node.kind == "file"), key=begin_of))


def _joined(spans: Iterable[_Span]) -> list[_Span]:
    """Return sorted spans without those that are empty, and those that nearly touch as one."""
    found: list[_Span] = []
    for begin, end in spans:
        if found and begin - found[-1][1] < _WORTH_A_CALL:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif begin < end:
            found.append((begin, end))
    return found


def _gaps(spans: list[_Span], begin: int, end: int) -> Iterator[_Span]:
    """Yield what is between joined ``spans`` from ``begin`` to ``end``."""
    for start, stop in spans[max(0, bisect(spans, (begin, 0)) - 1) :]:
        if start >= end:
            break
        if begin < start:
            yield begin, start
        begin = max(begin, stop)
    if begin < end:
        yield begin, end


def span(node: Node) -> _Span:
    """Return begin and end of a regular file's data in the data file; both are 0 if it has none."""
    if node.extents is None:
        return (node.offset, node.offset + node.size) if node.size else (0, 0)
    if not node.extents:
        return 0, 0
    return node.extents[0].data, node.extents[-1].data + node.extents[-1].length


def begin_of(node: Node) -> int:
    """Return where a regular file's data begins in the data file; 0 if it has none."""
    return span(node)[0]
