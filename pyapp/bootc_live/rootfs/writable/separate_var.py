"""Write the image's /var to a file system of its own in RAM while the root is built: memory has it only once then."""

from __future__ import annotations

import os
from dataclasses import replace

from bootc_live.base.errors import RootfsError
from bootc_live.config.model import WritableParts
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.layouts.built import cannot_hold
from bootc_live.rootfs.layouts.files.writer import write_files
from bootc_live.rootfs.tree.merge import Warn
from bootc_live.rootfs.tree.node import Node, new_directory, walk
from bootc_live.rootfs.writable.overlays import no_room_for
from bootc_live.system.files import no_space

_VAR = b"var"
_LIMIT = "bootc.live.var.size="


def var_in_ram(parts: WritableParts) -> bool:
    """Return whether every boot with these parts has a writable /var in RAM."""
    return parts.var and parts.state is None


def separate_var(root: Node, image: VerifiedImage, place: str, warn: Warn) -> str | None:
    """Move /var of a merged tree to files in the empty directory ``place``, and return its path there.

    The tree then has an empty /var, and the data file has no data that only /var needed. Return None, and change
    nothing, if /var is no directory. Raise RootfsError, and OutOfMemoryError if it does not fit.
    """
    var = root.directory.get(_VAR)
    if var is None or var.children is None:
        return None
    moved = new_directory()
    moved.directory[_VAR] = replace(var)
    var.children = {}
    data = os.open(image.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        write_files(moved, place, data, warn, kept=walk(root))
    except ValueError as error:
        raise cannot_hold(image, error) from error
    except OSError as error:
        if no_space(error):
            raise no_room_for("var", place, f"{error.filename}: {error.strerror}", _LIMIT) from error
        raise RootfsError(
            f"{image.resolved.source_text!r}: the file {error.filename} cannot be written: {error.strerror}",
            hint="look at the kernel log (dmesg)",
        ) from error
    finally:
        os.close(data)
    return os.path.join(place, "var")
