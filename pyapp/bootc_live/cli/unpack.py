"""``bootc-live unpack``: an image's tree as real files.

The files are copied from the verified, mounted index; no archive member is
ever created by its own name.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.errors import ConfigError, RootfsError, RunError
from bootc_live.base.interrupt import ignore_interrupts
from bootc_live.base.log import Recorder
from bootc_live.base.run import run
from bootc_live.cli.checks import require_root
from bootc_live.cli.source_argument import source_argument
from bootc_live.cli.workspace import workspace
from bootc_live.image.acquire import acquire
from bootc_live.rootfs.index import build_index, mounted_index
from bootc_live.source.access import Access

_HINT = "free some space, or name another DIR"


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raises BootcLiveError."""
    spec = source_argument(arguments)
    target = os.path.abspath(arguments.directory)
    if os.path.lexists(target) and (os.path.islink(target) or not os.path.isdir(target) or os.listdir(target)):
        raise ConfigError(f"{arguments.directory!r} exists and is not an empty directory", hint="name a new directory")
    parent = os.path.dirname(target)
    if not os.path.isdir(parent):
        raise ConfigError(
            f"{arguments.directory!r} cannot be made: {parent!r} is not a directory",
            hint="create that, or name another DIR",
        )
    require_root("unpack")
    recorder = Recorder()
    with workspace(arguments.workdir) as directory:
        access = Access(recorder.warn, label=arguments.label, unsecure=arguments.unsecure, directory=directory)
        image = acquire([spec], access, os.path.join(directory, "root.erofs"), recorder).image
        with recorder.phase("index", "making the root's index"):
            index = build_index(image, warn=recorder.warn)
        mountpoint = os.path.join(directory, "root")
        os.mkdir(mountpoint)
        with mounted_index(index, mountpoint), recorder.phase("copy", f"copying to {arguments.directory}"):
            try:
                _copy(mountpoint, target)
            except (OSError, RunError) as error:
                raise RootfsError(f"cannot unpack to {arguments.directory!r}: {error}", hint=_HINT) from error
    return 0


def _copy(tree: str, target: str) -> None:
    if os.path.isdir(target):
        # It may be a mount point, or where somebody stands: it is filled, not replaced.
        with _emptied_on_failure(target):
            _copy_into(tree, target)
            ignore_interrupts()
        return
    with tempfile.TemporaryDirectory(prefix=".bootc-live.", dir=os.path.dirname(target)) as part:
        made = os.path.join(part, "tree")
        os.mkdir(made)
        _copy_into(tree, made)
        ignore_interrupts()
        os.rename(made, target)


def _copy_into(tree: str, directory: str) -> None:
    run(["cp", "-a", "--sparse=auto", "--", f"{tree}/.", directory], hint=_HINT)


@contextmanager
def _emptied_on_failure(directory: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        raise
