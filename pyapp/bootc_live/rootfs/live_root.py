"""A whole live root: the index image, with /, /etc and /var as writable as they were asked to be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bootc_live.base.errors import RootfsError, RunError
from bootc_live.base.log import Recorder
from bootc_live.rootfs.index import IndexImage, mounted_index
from bootc_live.rootfs.writable import frozen, is_plain_directory, overlaid, seeded


@dataclass(frozen=True)
class Writable:
    """Which parts can be written, and mount options for the root's own mount."""

    root: bool
    etc: bool
    var: bool
    options: str = ""


@dataclass(frozen=True)
class MountedRoot:
    """A root mounted with all its parts below ``path``."""

    path: str


@contextmanager
def mounted_root(image: IndexImage, directory: str, writable: Writable, recorder: Recorder) -> Iterator[MountedRoot]:
    """Mount a root below ``directory``, which must be an empty one; all mounts end with the block.

    Raises RunError with mount(8)'s words, and RootfsError where it had options to refuse.
    """
    with ExitStack() as stack:
        with recorder.phase("mount", "mounting the root"):
            root = _mount_all(stack, image, directory, writable, recorder)
        yield root


def _mount_all(
    stack: ExitStack, image: IndexImage, directory: str, writable: Writable, recorder: Recorder
) -> MountedRoot:
    top = _make(directory, "root")
    lower = stack.enter_context(mounted_index(image, _make(directory, "lower"))) if writable.root else None
    try:
        if lower is not None:
            stack.enter_context(overlaid(lower, top, writable.options, _make(directory, "root-rw")))
        else:
            stack.enter_context(mounted_index(image, top, writable.options))
    except RunError as error:
        if not writable.options:
            raise
        raise RootfsError(
            f"the root cannot be mounted with 'rootflags={writable.options}': {error.message}",
            hint="correct rootflags=, or leave it out",
        ) from error
    etc, var = os.path.join(top, "etc"), os.path.join(top, "var")
    if writable.etc != writable.root and is_plain_directory(etc, recorder, "/etc"):
        part = overlaid(etc, etc, "", _make(directory, "etc-rw")) if writable.etc else frozen(etc)
        stack.enter_context(part)
    if (writable.var or writable.root) and is_plain_directory(var, recorder, "/var"):
        part = seeded(var, _make(directory, "var-rw")) if writable.var else frozen(var)
        stack.enter_context(part)
    return MountedRoot(top)


def _make(directory: str, name: str) -> str:
    path = os.path.join(directory, name)
    os.mkdir(path, 0o700)
    return path
