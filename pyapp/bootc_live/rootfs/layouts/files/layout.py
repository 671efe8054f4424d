"""Build the tree layout: real files, made of the verified layers.

No archive member is created by its own name: the merged tree is walked with directory descriptors, and the data is
copied from the verified data file, whose memory is freed meanwhile.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bootc_live.base.errors import BootcLiveError, OutOfMemoryError, RootfsError, RunError, about
from bootc_live.config.model import Layout
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.layouts.built import BuiltRoot, Finishing, cannot_hold, unchanged
from bootc_live.rootfs.layouts.files.writer import write_files
from bootc_live.rootfs.tree.merge import LayersRead, Warn, merge, unsaid
from bootc_live.rootfs.tree.node import Node, walk
from bootc_live.system.devices.zram import zram_below
from bootc_live.system.files import full, no_space
from bootc_live.system.memory import trim_heap
from bootc_live.system.mounts import bind, remount_bound, unmounted_after

_PAGE = 4096
_HINT = "look at the kernel log (dmesg)"
# Options that a bind mount can have (mount(8), "Filesystem-independent mount options"); it ignores all others.
_FLAGS = frozenset(
    {
        *("ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "atime", "noatime", "diratime", "nodiratime"),
        *("relatime", "norelatime", "strictatime", "nostrictatime", "symfollow", "nosymfollow", "defaults"),
    }
)


def build_tree(
    image: VerifiedImage,
    directory: str,
    finishing: Finishing = unchanged,
    read: LayersRead | None = None,
    warn: Warn = unsaid,
) -> BuiltRoot:
    """Make real files of a verified image in a new directory below ``directory``; its data file is used up.

    The files stay there as long as the file system of ``directory``, or until they are removed. Raise ImageError for
    layers that cannot be used, RootfsError for what the file system cannot hold, and OutOfMemoryError if it is full.
    """
    root = merge(image, read, warn)
    labelled = finishing(root, image)
    top = os.path.join(directory, "tree")
    os.mkdir(top)
    # If the directory above has the setgid bit, all files would get its group.
    os.chmod(top, 0o700)
    # What merging has freed would count together with the files.
    trim_heap()
    _write(image, root, top, warn)
    size = sum(-(-node.size // _PAGE) * _PAGE for node in walk(root) if node.kind == "file" and node.extents is None)
    size += sum(extent.length for node in walk(root) for extent in node.extents or ())
    writable = None if zram_below(top) else partial(_mounted, top, mode="rw")
    return BuiltRoot(Layout.TREE, partial(_mounted, top), 0, size, mount_writable=writable, labelled=labelled)


def _write(image: VerifiedImage, root: Node, top: str, warn: Warn) -> None:
    data = os.open(image.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        # It must not be found half emptied.
        os.unlink(image.path)
        write_files(root, top, data, warn)
    except ValueError as error:
        raise cannot_hold(image, error) from error
    except OSError as error:
        with about(f"the file {error.filename} of {image.resolved.source_text!r}"):
            raise _failure(error, top, image.resolved.source_text) from error
    finally:
        # Frees its memory even if something else has it open.
        os.ftruncate(data, 0)
        os.close(data)


def _failure(error: OSError, top: str, source_text: str) -> BootcLiveError:
    usage = os.statvfs(top)
    # A file may be too large for any file system.
    if error.errno == errno.EFBIG or not no_space(error):
        return RootfsError(
            f"{source_text!r} cannot be made into files: {error.filename}: {error.strerror}",
            hint="choose the index layout, which does not depend on what a file system can hold",
        )
    if usage.f_files and not usage.f_favail:
        return OutOfMemoryError(
            f"it has no place: its file system holds no more than {usage.f_files} files",
            hint="choose the index layout, or a larger file system",
        )
    return full(top)


@contextmanager
def _mounted(top: str, where: str, options: str, mode: str = "ro") -> Iterator[str]:
    """Mount the tree at ``where`` while the block runs; ``mode`` overrides the options. Raise RunError."""
    unknown = [option for option in options.split(",") if option and option not in _FLAGS]
    if unknown:
        raise RunError(f"files in RAM have no mount option {unknown[0]!r}", hint="leave it out")
    with unmounted_after(where):
        bind(top, where, hint=_HINT)
        remount_bound(where, f"{options},{mode}", hint=_HINT)
        yield where
