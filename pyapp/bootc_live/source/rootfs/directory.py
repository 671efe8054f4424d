"""Read a directory as the tar of a layer: all files of its own file system, in byte order of their names."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress

from bootc_live.base.errors import SourceError
from bootc_live.formats.tar.writer import END, NewMember, header, padding
from bootc_live.source.interface import CHUNK

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}
_NO_FOLLOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# Overlayfs and others use these for themselves.
_PRIVATE = (b"trusted.", b"system.")


def directory_tar(path: str, source_text: str, warn: Callable[[str], None]) -> Iterator[bytes]:
    """Yield the tar of a directory; raise SourceError, also for a file that changes meanwhile.

    ``warn`` is told which directories are left empty because other file systems are mounted there.
    """
    top = os.fsencode(path)
    packer = _Packer(top)
    try:
        yield from packer.pack(top, b".")
    except (OSError, ValueError) as error:
        at = os.fsdecode(packer.at)
        problem = f"{at!r} {error}" if isinstance(error, ValueError) else f"{at!r}: {error.strerror}"
        raise SourceError(
            f"cannot read the directory {source_text!r}: {problem}", hint="check it, and that nothing changes it"
        ) from error
    yield END
    if packer.others:
        listed = ", ".join(sorted(os.fsdecode(each) for each in packer.others)[:8])
        warn(f"{source_text!r} is taken without the other file systems that are mounted in it: {listed}")


class _Packer:
    def __init__(self, top: bytes) -> None:
        self.at = top
        self.others: list[bytes] = []
        self._device = os.stat(top).st_dev
        self._names: dict[int, bytes] = {}

    def pack(self, path: bytes, name: bytes) -> Iterator[bytes]:
        self.at = path
        found = os.lstat(path)
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            # A socket is of no use without its server.
            return
        if kind == "file" and found.st_nlink > 1:
            first = self._names.setdefault(found.st_ino, name)
            if first != name:
                yield header(NewMember(name, "hardlink", link=first, mtime=found.st_mtime_ns))
                return
        yield header(_member(path, name, kind, found))
        if kind == "file":
            yield from _content(path, found.st_size)
        elif kind == "dir" and found.st_dev == self._device:
            for child in sorted(os.listdir(path)):
                yield from self.pack(os.path.join(path, child), os.path.join(name, child))
        elif kind == "dir":
            self.others.append(path)


def _member(path: bytes, name: bytes, kind: str, found: os.stat_result) -> NewMember:
    device = (os.major(found.st_rdev), os.minor(found.st_rdev)) if kind in ("char", "block") else (0, 0)
    return NewMember(
        name,
        kind,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        size=found.st_size if kind == "file" else 0,
        mtime=found.st_mtime_ns,
        link=os.readlink(path) if kind == "symlink" else b"",
        device=device,
        xattrs=_xattrs(path),
    )


def _xattrs(path: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    # Some file systems have none.
    with suppress(OSError):
        for name in map(os.fsencode, os.listxattr(path, follow_symlinks=False)):
            if not name.startswith(_PRIVATE):
                found[name] = os.getxattr(path, name, follow_symlinks=False)
    return found


def _content(path: bytes, size: int) -> Iterator[bytes]:
    fd = os.open(path, _NO_FOLLOW)
    try:
        left = size
        while left:
            piece = os.read(fd, min(CHUNK, left))
            if not piece:
                raise ValueError("became shorter while it was read")
            yield piece
            left -= len(piece)
    finally:
        os.close(fd)
    yield padding(size)
