"""The result of every layout: a root that can be mounted read-only, anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from bootc_live.base.errors import RootfsError
from bootc_live.config.model import Layout
from bootc_live.formats.verity import HashTree
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.tree.node import Node
from bootc_live.system.devices.loop import loop_device
from bootc_live.system.devices.verity import verity_device
from bootc_live.system.mounts import mounted

_HINT = "look at dmesg; bootc.live.layout=tree needs no EROFS"

# Changes a merged tree before the root is built, and returns whether it set SELinux labels.
Finishing = Callable[[Node, VerifiedImage], bool]

Mount = Callable[[str, str], AbstractContextManager[str]]


@dataclass(frozen=True)
class BuiltRoot:
    """A complete root in RAM.

    ``mount`` keeps the root mounted at a directory with mount options, read-only, with suid and dev, while its block
    runs; it raises RunError. ``mount_writable`` does the same for writable files; it is None unless they are on a
    tmpfs, which forgets their labels. ``metadata`` is the number of bytes that describe files, ``size`` that of the
    whole root; ``sha256`` is the digest of the image file, if it can be compared. ``root_hash`` is that of dm-verity,
    which checks what is read. ``labelled`` tells whether the root has SELinux labels, ``library`` which library
    compressed it. ``var`` is where the files of /var are, writable, if the root lacks them.
    """

    layout: Layout
    mount: Mount
    metadata: int
    size: int
    sha256: str | None = None
    mount_writable: Mount | None = None
    labelled: bool = False
    library: str = ""
    root_hash: str | None = None
    var: str | None = None


def unchanged(_root: Node, _image: VerifiedImage) -> bool:
    """Leave a tree as the layers made it."""
    return False


def cannot_hold(image: VerifiedImage, error: ValueError) -> RootfsError:
    """Return the error for a tree that Linux or the layout cannot represent."""
    return RootfsError(
        f"{image.resolved.source_text!r} cannot be made into a root: {error}", hint="build the image anew"
    )


@contextmanager
def mounted_image(path: str, block: int, tree: HashTree | None, where: str, options: str = "") -> Iterator[str]:
    """Mount an EROFS image file with blocks of ``block`` bytes, read-only, with suid and dev, until the block ends.

    A hash ``tree`` that follows the image in its file protects it by dm-verity. Yield ``where``; raise RunError.
    """
    with ExitStack() as stack:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        device = stack.enter_context(loop_device(fd, path, block))
        if tree is not None:
            device = stack.enter_context(verity_device(device, tree.blocks, tree.root_hash))
        joined = ",".join(part for part in ("ro", options) if part)
        stack.enter_context(mounted("erofs", device, where, joined, hint=_HINT))
        yield where
