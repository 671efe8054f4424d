"""The tree layout: real files, made from the verified layers.

No archive member is created by its own name: the merged tree is walked with directory descriptors, and the data comes
out of the verified data file, which gives its memory back on the way.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bootc_live.base.errors import BootcLiveError, OutOfMemoryError, RootfsError, RunError
from bootc_live.base.log import Recorder
from bootc_live.config.model import Layout
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.layouts.built import BuiltRoot, Finishing, unchanged
from bootc_live.rootfs.layouts.files.files import Files
from bootc_live.rootfs.layouts.files.handles import handles
from bootc_live.rootfs.tree.data import Data
from bootc_live.rootfs.tree.merge import merge
from bootc_live.rootfs.tree.node import Node, path_of, walk
from bootc_live.rootfs.tree.read_ahead import ReadAhead
from bootc_live.system.files import full, no_space
from bootc_live.system.mounts import bind, remount_bound, unmounted_after
from bootc_live.system.zram import zram_below

_PAGE = 4096
_HINT = "look at the kernel log (dmesg)"
# What a bind mount can have of its own (mount(8), "Filesystem-independent mount options"); it ignores all others.
_FLAGS = frozenset(
    {
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "symfollow",
        "nosymfollow",
        "defaults",
    }
)


def build_tree(
    image: VerifiedImage,
    directory: str,
    recorder: Recorder,
    finishing: Finishing = unchanged,
    ahead: ReadAhead | None = None,
) -> BuiltRoot:
    """Make real files of a verified image in a new directory below ``directory``; its data file is used up.

    They stay there as long as the file system that ``directory`` lies on, or until somebody removes them. Raises
    ImageError for layers that make no sense, RootfsError for what the file system cannot hold, OutOfMemoryError where
    it is full.
    """
    root = merge(image, ahead, recorder.warn)
    labelled = finishing(root, image)
    top = os.path.join(directory, "tree")
    os.mkdir(top)
    # Its group would be that of all files, if the directory above it says so by its setgid bit.
    os.chmod(top, 0o700)
    _make(image, root, top, recorder)
    size = sum(-(-node.size // _PAGE) * _PAGE for node in walk(root) if node.kind == "file" and node.extents is None)
    size += sum(extent.length for node in walk(root) for extent in node.extents or ())
    writable = None if zram_below(top) else partial(_mounted, top, mode="rw")
    return BuiltRoot(Layout.TREE, partial(_mounted, top), 0, size, mount_writable=writable, labelled=labelled)


def _make(image: VerifiedImage, root: Node, top: str, recorder: Recorder) -> None:
    typed = image.resolved.typed
    data = os.open(image.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        # It must not be found half emptied, whatever comes.
        os.unlink(image.path)
        with handles(root, top) as opened:
            files = Files(root, opened, Data(data))
            try:
                files.write()
            except ValueError as error:
                where = path_of(root, files.at)
                raise RootfsError(
                    f"{typed!r} cannot be made into a root: {where} {error}", hint="build the image anew"
                ) from error
            except OSError as error:
                raise _failure(error, opened.fd(root), path_of(root, files.at), typed) from error
    finally:
        # At once, whoever else may have it open.
        os.ftruncate(data, 0)
        os.close(data)
    for space, count in sorted(files.attributes.refused.items()):
        recorder.warn(f"the root's file system holds no extended attributes {space}.*: {count} are left out")


def _failure(error: OSError, fd: int, where: str, typed: str) -> BootcLiveError:
    usage = os.fstatvfs(fd)
    # A file may be too large for any file system.
    if error.errno == errno.EFBIG or not no_space(error):
        return RootfsError(
            f"{typed!r} cannot be made into files: {where}: {error.strerror}",
            hint="choose the index layout, which does not depend on what a file system can hold",
        )
    if usage.f_files and not usage.f_favail:
        return OutOfMemoryError(
            f"no place for the file {where} of {typed!r}: the file system for it holds no more than "
            f"{usage.f_files} files",
            hint="choose the index layout, or a larger file system",
        )
    return full(fd, f"the file {where} of {typed!r}")


@contextmanager
def _mounted(top: str, where: str, options: str, mode: str = "ro") -> Iterator[str]:
    """Show the tree at ``where`` while the block runs, with the last word on options by ``mode``; raises RunError."""
    unknown = [option for option in options.split(",") if option and option not in _FLAGS]
    if unknown:
        raise RunError(f"files in RAM have no mount option {unknown[0]!r}", hint="leave it out")
    with unmounted_after(where):
        bind(top, where, hint=_HINT)
        remount_bound(where, f"{options},{mode}", hint=_HINT)
        yield where
