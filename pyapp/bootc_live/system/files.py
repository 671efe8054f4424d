"""Write files completely, and free parts of them."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bootc_live.base.errors import OutOfMemoryError
from bootc_live.base.units import mib
from bootc_live.system.system_call import libc_call

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# Bytes of one call, so that signals are not held up.
_PIECE = 64 * 2**20
# Answers of copy_file_range(2) for two files that only sendfile(2) can copy between.
_NO_RANGES = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all bytes at the current position of a file or pipe; raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_at(fd: int, offset: int, data: bytes | bytearray | memoryview) -> int:
    """Write all bytes at an offset of a file and return the offset after them; raises OSError."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
    return offset


def copy_part(source: int, offset: int, size: int, target: int) -> None:
    """Write a part of a file at the position of another one, without copying it through this process.

    File systems that can share blocks between files do so. Raises OSError, also if the part is not there.
    """
    end, ranges = offset + size, True
    while offset < end:
        count, wanted = 0, min(end - offset, _PIECE)
        if ranges:
            try:
                count = os.copy_file_range(source, target, wanted, offset)
            except OSError as error:
                if error.errno not in _NO_RANGES:
                    raise
            # Some file systems copy nothing in place of an error.
            ranges = count > 0
        count = count or os.sendfile(target, source, offset, wanted)
        if not count:
            raise OSError(errno.EIO, "the file is shorter than expected")
        offset += count


def forget_cached(fd: int) -> None:
    """Let what is read of a file next come from the disk, except what somebody has mapped or not written yet."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def sync_filesystem(place: int | str) -> None:
    """Wait until all of the file system of a descriptor or directory is on its device; raises OSError, also if not."""
    if isinstance(place, str):
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sync_filesystem(fd)
        finally:
            os.close(fd)
        return
    libc_call("syncfs", place)
    # Not all file systems empty the device's own cache at syncfs(2); all do it at fsync(2).
    os.fsync(place)


def exchange(one: str, other: str) -> None:
    """Exchange two files or directories of one file system at once, and write that to its disk; raises OSError."""
    libc_call("renameat2", _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    fd = os.open(os.path.dirname(one), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Free the whole pages inside a range of a writable file, which then reads as zeros.

    Uses MADV_REMOVE of madvise(2), which tmpfs, ext4 and others implement. Other file systems keep the data.
    """
    page = mmap.ALLOCATIONGRANULARITY
    begin = -(-offset // page) * page
    end = min(offset + length, os.fstat(fd).st_size) // page * page
    if end <= begin:
        return
    with suppress(OSError, ValueError), mmap.mmap(fd, end - begin, offset=begin) as mapped:
        mapped.madvise(mmap.MADV_REMOVE)


def no_space(error: OSError) -> bool:
    """Return whether an error means that a file system, a quota or a size limit is exceeded."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def full(place: int | str) -> OutOfMemoryError:
    """Return the error for what does not fit into the file system of a descriptor or path; see ``about``."""
    usage = os.statvfs(place)
    if usage.f_files and not usage.f_favail:
        why = f"holds no more than {usage.f_files} files"
    else:
        why = f"has {mib(usage.f_blocks * usage.f_frsize)}, {mib(usage.f_bavail * usage.f_frsize)} of them free"
    return OutOfMemoryError(
        f"it has no space left: its file system {why}",
        hint="give the machine more memory, or use a smaller image",
    )


@contextmanager
def space_for(fd: int) -> Iterator[None]:
    """Raise OutOfMemoryError if the file system of ``fd`` becomes full in the block."""
    try:
        yield
    except OSError as error:
        if no_space(error):
            raise full(fd) from error
        raise
