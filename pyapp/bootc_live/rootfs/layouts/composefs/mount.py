"""Mount a root of the store: its metadata image, and an overlay that finds the contents among the objects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bootc_live.base.errors import RootfsError
from bootc_live.rootfs.layouts.composefs.metadata import BLOCK, filesystem_size
from bootc_live.rootfs.layouts.composefs.store import OBJECTS, content_digest, image_path
from bootc_live.system import fsverity
from bootc_live.system.devices.loop import loop_device
from bootc_live.system.files import copy_part, forget_cached
from bootc_live.system.mounts import mount, mounted, unmounted_after

_EROFS_HINT = "use a kernel with EROFS and loop devices; look at the kernel log (dmesg)"
_OVERLAY_HINT = "use a kernel with data-only layers (6.5 and later), for fs-verity 6.6 and later; look at dmesg"
_DAMAGED = "boot another deployment, or install this one anew"


@contextmanager
def mounted_root(store: str, digest: str, where: str, options: str = "", *, verity: bool) -> Iterator[str]:
    """Mount the root whose metadata has a digest, read-only, until the block ends; yield ``where``.

    With ``verity``, the kernel opens no file whose object fs-verity does not protect, or whose digest is another one.
    Raise RootfsError if the metadata has another digest, and RunError.
    """
    store, where = os.path.realpath(store), os.path.realpath(where)
    # Relative, because commas, colons and backslashes of paths have a meaning here.
    layers = f"lowerdir={os.path.relpath(where, store)}::{OBJECTS}"
    wanted = ["ro", "metacopy=on", "redirect_dir=on", "verity=require" if verity else "", layers, options]
    with ExitStack() as stack:
        image = stack.enter_context(checked_image(store, digest))
        path = image_path(store, digest)
        try:
            # The list that follows is no whole number of blocks: udev would get errors where it looks at the end.
            size = filesystem_size(image)
        except ValueError as error:
            raise RootfsError(f"{path!r} {error}", hint=_DAMAGED) from error
        device = stack.enter_context(loop_device(image, path, BLOCK, size=size))
        # The overlay covers it, and keeps it.
        stack.enter_context(mounted("erofs", device, where, "ro", hint=_EROFS_HINT))
        stack.enter_context(unmounted_after(where))
        mount("overlay", "overlay", where, ",".join(filter(None, wanted)), hint=_OVERLAY_HINT, cwd=store)
        yield where


@contextmanager
def checked_image(store: str, digest: str) -> Iterator[int]:
    """Yield a descriptor of metadata that certainly has a digest: if fs-verity does not protect it, of a copy in RAM.

    Raise RootfsError.
    """
    path = image_path(store, digest)
    with ExitStack() as stack:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            forget_cached(fd)
            found, size = fsverity.measure(fd), os.fstat(fd).st_size
            if found is None:
                # What is hashed is what is mounted, whoever writes to the file.
                copy = os.memfd_create("bootc-live image", os.MFD_CLOEXEC)
                stack.callback(os.close, copy)
                copy_part(fd, 0, size, copy)
                fd = copy
            # The kernel refuses a part that was changed when it is read: better now than in the running system.
            read = content_digest(fd, size)
            found = found or read
        except OSError as error:
            raise RootfsError(f"{path!r} cannot be read: {error.strerror}", hint=_DAMAGED) from error
        if found != digest:
            raise RootfsError(
                f"{path!r} has the digest {found}, not that of its name: it was changed, or is damaged", hint=_DAMAGED
            )
        yield fd
