r"""One comparable line per file of a tree, the same as `tree-list.sh` prints where there is no Python.

Fields, separated by tabs: path, type, mode, uid, gid, link count, mtime, size or device number, link target, sha256,
link group, xattrs. Names are quoted like the shell script quotes them: bytes outside printable ASCII, and the
backslash, as `\ooo`.

* mtime is in whole seconds: gzip'd ustar layers know no more, and file systems round fractions differently.
* The link count of a directory is `-`: ext4 and EROFS count subdirectories, overlayfs and btrfs say 1, so it tells of
  the file system and not of the image.
* A file with more than one name shows the group's first path in byte order, so that the identity is compared, not only
  the count.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Final

KINDS: Final = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
}
NONE: Final = "-"


@dataclass(frozen=True, order=True)
class Line:
    """One entry; every field is text, `-` where it does not apply."""

    path: str
    kind: str
    mode: str
    uid: str
    gid: str
    nlink: str
    mtime: str
    size: str
    target: str = NONE
    sha256: str = NONE
    group: str = NONE
    xattrs: str = NONE

    def __str__(self) -> str:
        return "\t".join(self.fields())

    def fields(self) -> tuple[str, ...]:
        """The fields in their order."""
        return astuple(self)

    def but(self, **changed: str) -> Line:
        """A copy with some fields changed."""
        return replace(self, **changed)


def quote(data: bytes) -> str:
    """Printable ASCII as it stands, every other byte and the backslash as three octal digits."""
    return "".join(chr(b) if 0x20 < b < 0x7F and b != 0x5C else f"\\{b:03o}" for b in data)


def _walk(top: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Every entry under `top` with its path relative to it, without what is mounted below; `.` is the root itself."""
    info = os.lstat(top)
    device = info.st_dev
    yield b".", info
    todo = [b""]
    while todo:
        below = todo.pop()
        with os.scandir(os.path.join(top, below)) as entries:
            for entry in entries:
                path = os.path.join(below, entry.name)
                info = entry.stat(follow_symlinks=False)
                yield path, info
                if stat.S_ISDIR(info.st_mode) and info.st_dev == device:
                    todo.append(path)


def _sha256(path: bytes) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _xattrs(path: bytes) -> str:
    names = sorted(os.listxattr(path, follow_symlinks=False))
    pairs = (f"{n}=0x{os.getxattr(path, n, follow_symlinks=False).hex()}" for n in names)
    return ",".join(pairs) or NONE


def _line(top: bytes, path: bytes, info: os.stat_result, group: str, digest: Callable[[bytes], str]) -> Line:
    full, kind = os.path.join(top, path), KINDS[stat.S_IFMT(info.st_mode)]
    size = NONE
    if kind in "fl":
        size = str(info.st_size)
    elif kind in "bc":
        size = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    return Line(
        path=quote(path),
        kind=kind,
        mode=f"{stat.S_IMODE(info.st_mode):o}",
        uid=str(info.st_uid),
        gid=str(info.st_gid),
        nlink=NONE if kind == "d" else str(info.st_nlink),
        mtime=str(info.st_mtime_ns // 10**9),
        size=size,
        target=quote(os.readlink(full)) if kind == "l" else NONE,
        sha256=digest(full) if kind == "f" else NONE,
        group=group,
        xattrs=_xattrs(full),
    )


def tree_list(top: Path | str, digest: Callable[[bytes], str] = _sha256) -> list[Line]:
    """The entries of the tree at `top`, sorted by path; `digest` reads a file. Needs root."""
    base = os.fsencode(top)
    found = sorted(_walk(base))
    first: dict[tuple[int, int], str] = {}
    lines = []
    for path, info in found:
        group = NONE
        if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
            group = first.setdefault((info.st_dev, info.st_ino), quote(path))
        lines.append(_line(base, path, info, group, digest))
    return sorted(lines)


def differences(want: Iterable[Line], got: Iterable[Line]) -> list[str]:
    """One text per entry that differs: missing, extra, or each field with both values. Empty if the trees are equal."""
    wanted, present = ({line.path: line for line in lines} for lines in (want, got))
    out = []
    for path in sorted(wanted.keys() | present.keys()):
        left, right = wanted.get(path), present.get(path)
        if left is None:
            out.append(f"{path}: not expected, got {right}")
        elif right is None:
            out.append(f"{path}: missing, expected {left}")
        elif left != right:
            fields = (f for f in Line.__dataclass_fields__ if getattr(left, f) != getattr(right, f))
            told = ", ".join(f"{f} {getattr(right, f)} instead of {getattr(left, f)}" for f in fields)
            out.append(f"{path}: {told}")
    return out


def time_of_new_files(directory: Path) -> int:
    """Return the second that a file made now has as its time: the kernel's clock for files lags behind time(2)."""
    with tempfile.TemporaryFile(dir=directory) as file:
        return int(os.fstat(file.fileno()).st_mtime)
