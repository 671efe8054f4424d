"""``bootc-live unpack``: an image's tree as real files.

They are written as in the tree layout: no file is created under a name from an archive, and holes stay holes.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_live.base.errors import ConfigError, RootfsError
from bootc_live.base.log import Recorder
from bootc_live.cli.options.arguments import desk_access, require_root, source_argument, workspace
from bootc_live.image.recipe import IntoSink
from bootc_live.image.sink import DataFile
from bootc_live.image.verified import VerifiedImage
from bootc_live.pipeline import fetch
from bootc_live.rootfs.layouts.files.writer import write_files
from bootc_live.rootfs.tree.merge import merge
from bootc_live.rootfs.tree.node import Node, walk
from bootc_live.system.cleanup.directories import private_directory, remove_entries
from bootc_live.system.cleanup.guard import commit, owned
from bootc_live.system.cleanup.new_results import write_error_hint

_HINT = "name a new directory"


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    spec = source_argument(arguments)
    target = os.path.abspath(arguments.directory)
    if os.path.lexists(target) and (os.path.islink(target) or not os.path.isdir(target) or os.listdir(target)):
        raise ConfigError(f"{arguments.directory!r} exists and is not an empty directory", hint=_HINT)
    parent = os.path.dirname(target)
    if not os.path.isdir(parent):
        raise ConfigError(
            f"{arguments.directory!r} cannot be made: {parent!r} is not a directory",
            hint="create it, or name another DIR",
        )
    require_root("unpack")
    recorder = Recorder()
    with workspace(arguments.workdir) as directory:
        access = desk_access(arguments, recorder, directory)
        recipe = IntoSink(os.path.join(directory, "layers"), DataFile())
        image = fetch([spec], access, recipe, recorder).image
        root = merge(image, warn=recorder.warn)
        for line in _privileged(root):
            recorder.warn(line)
        with recorder.phase("copy", f"copying to {arguments.directory}"):
            try:
                _copy(image, root, arguments.directory, recorder)
            except ValueError as error:
                raise RootfsError(
                    f"{image.resolved.source_text!r} cannot be unpacked to {arguments.directory!r}: {error}",
                    hint="build the image again",
                ) from error
            except OSError as error:
                raise RootfsError(
                    f"cannot unpack to {arguments.directory!r}: {error.strerror}", hint=write_error_hint(error)
                ) from error
    return 0


def _privileged(root: Node) -> Iterator[str]:
    """Yield a warning of set-uid files and devices, which are dangerous for anyone who can reach the tree."""
    nodes = list(walk(root))
    rights = sum(node.kind == "file" and bool(node.mode & 0o6000) for node in nodes)
    devices = sum(node.kind in ("char", "block") for node in nodes)
    if rights or devices:
        yield (
            f"the tree has {rights} set-uid or set-gid files and {devices} devices, chosen by the image's author: "
            "keep other users out of its directory, or mount its file system with nosuid,nodev"
        )


def _copy(image: VerifiedImage, root: Node, directory: str, recorder: Recorder) -> None:
    target = os.path.abspath(directory)
    if os.path.isdir(target):
        # It may be a mount point or a current directory, so it is filled, not replaced.
        with _locked(directory), owned(_state, _reset, target) as filled:
            _copy_into(image, root, target, recorder)
            filled.keep()
        return
    with private_directory(os.path.dirname(target), ".bootc-live.", purpose=repr(directory)) as part:
        tree = os.path.join(part, "tree")
        os.mkdir(tree)
        _copy_into(image, root, tree, recorder)
        commit(os.rename, tree, target)


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Lock an empty directory against other runs: one that fails would remove the files of the others."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another program is unpacking to {directory!r}", hint=_HINT) from error
        if os.listdir(fd):
            raise ConfigError(f"{directory!r} is no longer empty", hint=_HINT)
        yield
    finally:
        os.close(fd)


def _copy_into(image: VerifiedImage, root: Node, directory: str, recorder: Recorder) -> None:
    # Other users must not reach it before it has the owner and mode of the image's root.
    os.chmod(directory, 0o700)
    with open(image.path, "r+b", buffering=0) as data:
        try:
            write_files(root, directory, data.fileno(), recorder.warn)
        except OSError as error:
            raise OSError(error.errno, f"{error.filename}: {error.strerror}") from error


def _state(directory: str) -> list[str | int]:
    before = os.stat(directory)
    return [directory, before.st_uid, before.st_gid, stat.S_IMODE(before.st_mode)]


def _reset(before: list[str | int]) -> None:
    directory, owner, group, mode = before
    assert isinstance(directory, str)
    remove_entries(directory, os.listdir(directory))
    os.chown(directory, int(owner), int(group))
    os.chmod(directory, int(mode))
