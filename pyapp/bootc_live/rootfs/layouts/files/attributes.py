"""Owners, modes, times and extended attributes of files that are being made."""

from __future__ import annotations

import errno
import os
from collections import Counter

from bootc_live.rootfs.tree.node import Node

_UNKNOWN = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP})
_TOO_LARGE = frozenset({errno.ENOSPC, errno.E2BIG, errno.ERANGE})
_LARGE = 3000
# Set by chmod alone: mkdir(2) drops them, chown(2) takes two of them away.
_SPECIAL = 0o6000
_NANO = 1_000_000_000


class Attributes:
    """Gives files what their nodes say; counts what the file system refuses, by name space."""

    def __init__(self) -> None:
        """Begin with nothing refused."""
        self.refused: Counter[str] = Counter()

    def of_file(self, node: Node, fd: int) -> None:
        """Finish a regular file that was made with its mode but the special bits. Raises OSError."""
        if node.uid or node.gid:
            os.fchown(fd, node.uid, node.gid)
        if node.mode & _SPECIAL:
            os.fchmod(fd, node.mode)
        if node.xattrs:
            self._xattrs(node, fd, follow=True)
        time = node.mtime * _NANO + node.mtime_ns
        os.utime(fd, ns=(time, time))

    def of_entry(self, node: Node, name: bytes, parent: int) -> None:
        """Finish whatever else has the name in the open directory ``parent``, itself and not what it leads to."""
        if node.uid or node.gid:
            os.chown(name, node.uid, node.gid, dir_fd=parent, follow_symlinks=False)
        if node.mode & _SPECIAL and node.kind != "symlink":
            os.chmod(name, node.mode, dir_fd=parent)
        if node.xattrs:
            # There is no such call with a directory's descriptor; the name is a single one.
            self._xattrs(node, os.fsencode(f"/proc/self/fd/{parent}/") + name, follow=False)
        time = node.mtime * _NANO + node.mtime_ns
        os.utime(name, ns=(time, time), dir_fd=parent, follow_symlinks=False)

    def of_top(self, node: Node, fd: int) -> None:
        """Finish the root directory, which has no name of ours. Raises OSError."""
        os.fchown(fd, node.uid, node.gid)
        os.fchmod(fd, node.mode)
        self._xattrs(node, fd, follow=True)
        time = node.mtime * _NANO + node.mtime_ns
        os.utime(fd, ns=(time, time))

    def _xattrs(self, node: Node, path: int | bytes, *, follow: bool) -> None:
        for name, value in node.xattrs.items():
            try:
                os.setxattr(path, name, value, follow_symlinks=follow)
            except OSError as error:
                # A host that uses SELinux takes no label that its own policy does not know.
                if error.errno in _UNKNOWN or (error.errno == errno.EINVAL and name == b"security.selinux"):
                    self.refused[_space(name)] += 1
                elif error.errno in _TOO_LARGE and (size := sum(map(len, node.xattrs.values()))) >= _LARGE:
                    # ext4 has one block for all of an inode's, and says that there is no space.
                    raise OSError(
                        errno.E2BIG, f"{size} bytes of extended attributes are more than the file system holds"
                    ) from error
                else:
                    raise


def _space(name: bytes) -> str:
    return name.partition(b".")[0].decode(errors="backslashreplace")
