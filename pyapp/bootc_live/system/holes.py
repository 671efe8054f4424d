"""Give back the memory of parts of a file."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress


def punch(fd: int, offset: int, length: int) -> None:
    """Turn a span of a file that is open for writing into a hole, in whole pages inside it.

    MADV_REMOVE of madvise(2), which tmpfs, ext4 and others know; elsewhere nothing happens, and the memory comes back
    with the file.
    """
    page = mmap.ALLOCATIONGRANULARITY
    begin = -(-offset // page) * page
    end = min(offset + length, os.fstat(fd).st_size) // page * page
    if end <= begin:
        return
    with suppress(OSError, ValueError), mmap.mmap(fd, end - begin, offset=begin) as mapped:
        mapped.madvise(mmap.MADV_REMOVE)
