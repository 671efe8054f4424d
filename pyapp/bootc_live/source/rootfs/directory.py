"""Read a directory as the tar of a layer: all files of its own file system, in byte order of their names."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from bootc_live.base.errors import SourceError
from bootc_live.formats.tar.writer import END, NewMember, header, padding
from bootc_live.source.interface import CHUNK
from bootc_live.system.system_call import system_call

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}
# openat2(2), the same on all architectures, and what it must not follow: RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS.
_OPENAT2, _NO_LINKS = 437, 0x08 | 0x04
# Overlayfs and others use these for themselves; access control lists are of the file.
_PRIVATE, _LISTS = (b"trusted.", b"system."), b"system.posix_acl_"
# Our own, while something is made in that directory.
_OURS = b".bootc-live."


def directory_tar(path: str, source_text: str, warn: Callable[[str], None], *, top: bool = True) -> Iterator[bytes]:
    """Yield the tar of a directory, which may be a link; raise SourceError, also for a file that changes meanwhile.

    ``top`` puts owner and mode of the directory itself into it. ``warn`` is told which directories are left empty
    because other file systems are mounted there.
    """
    where = os.fsencode(os.path.realpath(path))
    at = where
    try:
        opened = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            packer = _Packer(opened)
            for at in packer.walk():
                if top or at != b".":
                    yield from packer.pack(at)
        finally:
            os.close(opened)
    except (OSError, ValueError) as error:
        shown = _shown(where, at)
        problem = f"{shown!r} {error}" if isinstance(error, ValueError) else f"{shown!r}: {error.strerror}"
        raise SourceError(
            f"cannot read the directory {source_text!r}: {problem}", hint="check it, and that nothing changes it"
        ) from error
    yield END
    if packer.others:
        listed = ", ".join(sorted(_shown(where, each) for each in packer.others)[:8])
        warn(f"{source_text!r} is taken without the other file systems that are mounted in it: {listed}")


def _shown(top: bytes, name: bytes) -> str:
    return os.fsdecode(os.path.normpath(os.path.join(top, name)))


class _Packer:
    """Packs the files below an open directory, by their names from there; no link is followed."""

    def __init__(self, top: int) -> None:
        self.others: list[bytes] = []
        self._top = top
        self._device = os.fstat(top).st_dev
        self._names: dict[tuple[int, int], bytes] = {}

    def walk(self) -> Iterator[bytes]:
        """Yield all names in byte order, a directory before what is in it."""
        todo = [b"."]
        while todo:
            name = todo.pop()
            yield name
            found = self._stat(name)
            if not stat.S_ISDIR(found.st_mode):
                continue
            if found.st_dev != self._device:
                self.others.append(name)
                continue
            directory = _open_beneath(self._top, name, os.O_RDONLY | os.O_DIRECTORY, found)
            try:
                children = sorted(map(os.fsencode, os.listdir(directory)), reverse=True)
            finally:
                os.close(directory)
            todo += [os.path.join(name, child) for child in children if not child.startswith(_OURS)]

    def pack(self, name: bytes) -> Iterator[bytes]:
        """Yield the headers of a file, and its data."""
        found = self._stat(name)
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            # A socket is of no use without its server.
            return
        if kind == "file" and found.st_nlink > 1:
            first = self._names.setdefault((found.st_dev, found.st_ino), name)
            if first != name:
                yield header(NewMember(name, "hardlink", link=first, mtime=found.st_mtime_ns))
                return
        link = os.readlink(name, dir_fd=self._top) if kind == "symlink" else b""
        if kind not in ("file", "dir"):
            yield header(_member(name, kind, found, link, {}))
            return
        opened = _open_beneath(self._top, name, os.O_RDONLY | os.O_NONBLOCK, found)
        try:
            yield header(_member(name, kind, found, link, _xattrs(opened)))
            if kind == "file":
                yield from _content(opened, found.st_size)
        finally:
            os.close(opened)

    def _stat(self, name: bytes) -> os.stat_result:
        return os.stat(name, dir_fd=self._top, follow_symlinks=False)


def _open_beneath(top: int, name: bytes, flags: int, expected: os.stat_result) -> int:
    """Open a file that was looked at, without following a link on the way; raise ValueError if it is another one."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0, _NO_LINKS)
    try:
        opened = system_call(_OPENAT2, top, name, how, len(how))
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        # Before Linux 5.6.
        opened = os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=top)
    found = os.fstat(opened)
    if (found.st_dev, found.st_ino) != (expected.st_dev, expected.st_ino):
        os.close(opened)
        raise ValueError("was replaced while it was read")
    return opened


def _member(name: bytes, kind: str, found: os.stat_result, link: bytes, xattrs: Mapping[bytes, bytes]) -> NewMember:
    device = (os.major(found.st_rdev), os.minor(found.st_rdev)) if kind in ("char", "block") else (0, 0)
    return NewMember(
        name,
        kind,
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        size=found.st_size if kind == "file" else 0,
        mtime=found.st_mtime_ns,
        link=link,
        device=device,
        xattrs=xattrs,
    )


def _xattrs(opened: int) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    # Some file systems have none.
    with suppress(OSError):
        for name in map(os.fsencode, os.listxattr(opened)):
            if name.startswith(_LISTS) or not name.startswith(_PRIVATE):
                found[name] = os.getxattr(opened, name)
    return found


def _content(opened: int, size: int) -> Iterator[bytes]:
    left = size
    while left:
        piece = os.read(opened, min(CHUNK, left))
        if not piece:
            raise ValueError("became shorter while it was read")
        yield piece
        left -= len(piece)
    yield padding(size)
