"""What every layout makes: a root that can be mounted read-only, wherever it is wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from bootc_live.config.model import Layout
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.tree.node import Node
from bootc_live.system.loop import loop_device
from bootc_live.system.mounts import mounted

_HINT = "look at dmesg; bootc.live.layout=tree needs no EROFS"

# Changes a merged tree before anything is made of it, and returns whether it set SELinux labels.
Finishing = Callable[[Node, VerifiedImage], bool]

Mount = Callable[[str, str], AbstractContextManager[str]]


@dataclass(frozen=True)
class BuiltRoot:
    """A root that lies in RAM, complete.

    ``mount`` takes a directory and mount options, and keeps the root mounted there, read-only, with suid and dev,
    while its block runs; it raises RunError. ``metadata`` is how many bytes describe files, ``size`` all that the root
    takes; ``sha256`` is that of the whole image file, where the layout makes one that can be compared.
    ``mount_writable`` does as ``mount`` does, but lets its files be written to: files on a tmpfs, which forgets their
    labels; None for any other root. ``labelled`` tells that it has SELinux labels, ``library`` what compressed it.
    """

    layout: Layout
    mount: Mount
    metadata: int
    size: int
    sha256: str | None = None
    mount_writable: Mount | None = None
    labelled: bool = False
    library: str = ""


def unchanged(_root: Node, _image: VerifiedImage) -> bool:
    """Leave a tree as the layers made it."""
    return False


@contextmanager
def mounted_image(path: str, block: int, where: str, options: str = "") -> Iterator[str]:
    """Mount the EROFS image file ``path``, of blocks of that many bytes, read-only, with suid and dev; gives ``where``.

    The mount ends with the block. Raises RunError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with loop_device(fd, path, block) as device:
            joined = ",".join(part for part in ("ro", options) if part)
            with mounted("erofs", device, where, joined, hint=_HINT):
                yield where
    finally:
        os.close(fd)
