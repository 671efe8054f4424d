"""Files that the kernel protects by fs-verity (kernel: Documentation/filesystems/fsverity.rst)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import Final

from bootc_live.formats.fsverity import BLOCK, SHA256

_ENABLE: Final = 0x40806685
_MEASURE: Final = 0xC0046686
# struct fsverity_enable_arg: version, algorithm, size of a block; no salt, no signature.
_ENABLE_ARG: Final = struct.pack("=III116x", 1, SHA256, BLOCK)
# struct fsverity_digest: algorithm, room for the digest, digest.
_DIGEST: Final = struct.Struct("=HH32s")
# The type of file system has no fs-verity; this one has not enabled it, or the kernel was built without; its blocks are
# too small.
_MISSING: Final = {
    errno.ENOTTY: "the type of file system has none",
    errno.EOPNOTSUPP: "it is not enabled in the file system, or this kernel was built without",
    errno.EINVAL: f"the file system has blocks of less than {BLOCK} bytes",
}


def enable(fd: int) -> str:
    """Protect a file for ever, which nobody may have open for writing; return an obstacle, empty if there is none.

    What was written is on the disk then. Do nothing if the file is protected already. Raise OSError.
    """
    try:
        fcntl.ioctl(fd, _ENABLE, _ENABLE_ARG)
    except OSError as error:
        if error.errno in _MISSING:
            return f"there is no fs-verity: {_MISSING[error.errno]}"
        if error.errno != errno.EEXIST:
            raise
    return ""


def measure(fd: int) -> str | None:
    """Return the digest that the kernel checks whatever is read of a file against; None if it is not protected.

    Raise OSError.
    """
    answer = bytearray(_DIGEST.pack(0, 32, b""))
    try:
        fcntl.ioctl(fd, _MEASURE, answer)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOVERFLOW) or error.errno in _MISSING:
            return None
        raise
    algorithm, size, digest = _DIGEST.unpack(answer)
    return digest.hex() if (algorithm, size) == (SHA256, 32) else None


def obstacle(directory: str) -> str:
    """Return why the files of a directory cannot be protected; empty if they can. Raise OSError."""
    fd = os.open(directory, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    try:
        # Nobody may have it open for writing.
        readable = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)
    try:
        return enable(readable)
    finally:
        os.close(readable)
