"""Copy file data out of the verified data file, and free its memory meanwhile."""

from __future__ import annotations

import errno
import os

from bootc_live.rootfs.tree.node import Node
from bootc_live.system.files import punch_hole

# At most this much is in memory twice; smaller steps cost more calls.
_BATCH = 4 * 2**20
# Unused data of this size is freed before the copying begins; less is not worth a call.
_WORTH_A_CALL = 64 * 2**10
# The data file may span terabytes, most of them holes: some machines have no addresses for that.
_MOST_AT_ONCE = 2**30
# The kernel cannot copy between these two file systems.
_ELSEWHERE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class Data:
    """The data file while it is emptied: files must be copied in the order of their data."""

    def __init__(self, fd: int) -> None:
        """Empty the data file ``fd``, open for reading and writing."""
        self._fd = fd
        self._freed = 0
        self._in_kernel = hasattr(os, "copy_file_range")

    def drop_garbage(self, spans: list[tuple[int, int]]) -> None:
        """Free everything between the sorted ``spans``, such as files of lower layers that upper ones hide."""
        end = 0
        for begin, until in [*spans, (os.fstat(self._fd).st_size, 0)]:
            if begin - end >= _WORTH_A_CALL:
                self._punch(end, begin)
            end = max(end, until)
        if spans:
            self._freed = spans[0][0]

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
            free = min(source, needed)
            if free - self._freed >= _BATCH:
                self._punch(self._freed, free)
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
        for at in range(begin, end, _MOST_AT_ONCE):
            punch_hole(self._fd, at, min(end - at, _MOST_AT_ONCE))


def span(node: Node) -> tuple[int, int]:
    """Return begin and end of a regular file's data in the data file; both are 0 if it has none."""
    if node.extents is None:
        return (node.offset, node.offset + node.size) if node.size else (0, 0)
    if not node.extents:
        return 0, 0
    return node.extents[0].data, node.extents[-1].data + node.extents[-1].length
