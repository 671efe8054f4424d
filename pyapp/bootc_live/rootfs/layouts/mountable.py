"""Find out what this kernel can mount, by mounting a tiny image of each kind before anything is fetched.

The kernel's version is not enough: distributions port EROFS back, and leave parts of it out.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from bootc_live.base.errors import RootfsError, RunError
from bootc_live.config.model import Compression, Config, Layout
from bootc_live.formats.erofs.compressed import EXTENT
from bootc_live.formats.erofs.structures import BLOCK
from bootc_live.formats.tar.sparse import Extent
from bootc_live.rootfs.layouts.erofs.file_store import file_store
from bootc_live.rootfs.layouts.erofs.layout import write_image
from bootc_live.rootfs.layouts.index.layout import write_metadata
from bootc_live.rootfs.memory.need import StorageOption
from bootc_live.rootfs.tree.node import Node, new_directory, walk
from bootc_live.system.devices import verity
from bootc_live.system.devices.loop import loop_device
from bootc_live.system.mounts import detached, require_kind

_WHAT = {
    StorageOption(Layout.INDEX): "EROFS with blocks of 512 bytes (Linux 6.4 and later can)",
    StorageOption(Layout.EROFS): "EROFS images of the erofs layout (Linux 5.15 and later can)",
    StorageOption(Layout.EROFS, Compression.LZ4): "EROFS compressed with lz4 (Linux 5.17 and later can)",
    StorageOption(Layout.EROFS, Compression.ZSTD): "EROFS compressed with zstd (Linux 6.10 and later can)",
}
# Compresses to several blocks and an end that fits behind the inode.
_CONTENT = b"".join(b"%d line of a text\n" % number for number in range(8000))[: EXTENT + 5000]
_SIZE = 16 * 2**10
_PART = Extent(start=8 * 2**10, length=4 * 2**10, data=0)
# The data of an index may lie at any multiple of 512.
_BEGIN = 64 * 2**10 + BLOCK


def obstacle(option: StorageOption) -> str:
    """Return why this kernel cannot mount the image of an option; empty if it can."""
    return "" if option.layout is Layout.TREE else _obstacle(option.layout, option.compress)


@cache
def _obstacle(layout: Layout, compress: Compression) -> str:
    try:
        require_kind("erofs")
    except OSError as error:
        return f"this kernel has no EROFS ({error.strerror})"
    try:
        with (
            _image(layout, compress) as (fd, block),
            loop_device(fd, "bootc-live probe", block) as device,
            detached("erofs", device) as top,
        ):
            _check(top)
    except RunError as error:
        return error.message
    except OSError as error:
        return f"this kernel cannot mount {_WHAT[StorageOption(layout, compress)]}: {error.strerror}"
    except RootfsError:
        # A missing library is reported by the layout itself.
        return ""
    return ""


def require_overlay(config: Config) -> None:
    """Raise RootfsError if a writable part needs the overlay file system, and the kernel has none."""
    parts = config.parts
    # Labelled files of a tree are written to without an overlay; the image may decide whether they are labelled.
    if not (parts.root or parts.etc) or (config.layout is Layout.TREE and config.selinux is not False):
        return
    try:
        require_kind("overlay")
    except OSError as error:
        what, without = ("'rw'", "without it") if parts.root else ("a writable /etc", "with bootc.live.etc.rw=0")
        raise RootfsError(
            f"this kernel has no overlay file system ({error.strerror}), which {what} needs",
            hint=f"use a kernel with overlayfs, add its module to the initramfs, or boot {without}",
        ) from error


def require_verity(config: Config) -> None:
    """Raise RootfsError if dm-verity is asked for, and the kernel has none."""
    if not config.verity:
        return
    try:
        verity.require_verity()
    except OSError as error:
        raise RootfsError(
            f"this kernel has no dm-verity ({error.strerror}), which 'bootc.live.verity' needs",
            hint="use a kernel with dm-verity, add its module dm-verity to the initramfs, or boot without it",
        ) from error


@contextmanager
def _image(layout: Layout, compress: Compression) -> Iterator[tuple[int, int]]:
    """Make an image with everything that a layout uses, in memory; yield its descriptor and block size."""
    whole, sparse = Node(kind="file", size=len(_CONTENT), offset=_BEGIN), Node(kind="file", size=_SIZE, offset=1)
    root = new_directory()
    root.children = {b"sparse": sparse, b"whole": whole}
    sparse.extents = (_PART,)
    fd = os.memfd_create("bootc-live probe", os.MFD_CLOEXEC)
    try:
        if layout is Layout.INDEX:
            sparse.extents = (Extent(_PART.start, _PART.length, _BEGIN),)
            os.pwrite(fd, _CONTENT, _BEGIN)
            write_metadata([*walk(root)], fd, _BEGIN, len(_CONTENT))
            os.ftruncate(fd, -(-os.fstat(fd).st_size // 4096) * 4096)
            yield fd, BLOCK
        else:
            with file_store(fd, compress) as store:
                files = {
                    whole.offset: store.put(_read, 0, whole.size),
                    sparse.offset: store.put_sparse(_read, sparse.size, sparse.extents),
                }
                store.flush()
                write_image(root, store, files)
            yield fd, store.block
    finally:
        os.close(fd)


def _read(start: int, length: int) -> bytes:
    return _CONTENT[start : start + length]


def _check(top: int) -> None:
    """Read the files of the image; raise OSError if their content is wrong."""
    holes = bytes(_PART.start), bytes(_SIZE - _PART.start - _PART.length)
    for name, content in (("whole", _CONTENT), ("sparse", holes[0] + _CONTENT[: _PART.length] + holes[1])):
        with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=top), "rb") as file:
            if file.read() != content:
                raise OSError(errno.EIO, "it reads wrong data")
