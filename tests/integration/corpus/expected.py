"""Lines of a tree that is expected whatever umoci makes of the image."""

from __future__ import annotations

import hashlib

from tests.lib.tar_writer import DEFAULT_MTIME
from tests.lib.tree_list import NONE, Line


def a_dir(path: str, *, mode: str = "755", mtime: int = DEFAULT_MTIME, uid: int = 0, xattrs: str = NONE) -> Line:
    """A directory."""
    return Line(path, "d", mode, str(uid), "0", NONE, str(mtime), NONE, xattrs=xattrs)


def a_file(path: str, data: bytes, *, mtime: int = DEFAULT_MTIME, uid: int = 0, xattrs: str = NONE) -> Line:
    """A regular file with one name."""
    sha256 = hashlib.sha256(data).hexdigest()
    return Line(path, "f", "644", str(uid), "0", "1", str(mtime), str(len(data)), sha256=sha256, xattrs=xattrs)


def holes(size: int, extents: list[tuple[int, bytes]]) -> bytes:
    """What a sparse file of `size` bytes reads as."""
    content = bytearray(size)
    for offset, data in extents:
        content[offset : offset + len(data)] = data
    return bytes(content)
