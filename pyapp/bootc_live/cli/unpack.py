"""``bootc-live unpack``: an image's tree as real files.

The files are copied from the verified, mounted index; no archive member is
ever created by its own name.
"""

from __future__ import annotations

import argparse
import os
import tempfile

from bootc_live.base.errors import ConfigError, RootfsError
from bootc_live.base.log import Recorder
from bootc_live.base.run import run
from bootc_live.cli.boot import obtain, workspace
from bootc_live.cli.source_argument import source_argument
from bootc_live.rootfs.index import build_index, mounted_index


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raises BootcLiveError."""
    spec = source_argument(arguments)
    target = os.path.abspath(arguments.directory)
    if os.path.lexists(target) and (os.path.islink(target) or not os.path.isdir(target) or os.listdir(target)):
        raise ConfigError(f"{arguments.directory!r} exists and is not an empty directory", hint="name a new directory")
    parent = os.path.dirname(target)
    if not os.path.isdir(parent):
        raise ConfigError(f"{parent!r} is not a directory to unpack into", hint="create it, or name another one")
    if os.geteuid() != 0:
        raise RootfsError("unpack needs root: it mounts the image and keeps owners", hint="run it as root")
    recorder = Recorder()
    with workspace(arguments.workdir) as directory:
        image = obtain(spec, arguments.label, arguments.unsecure, directory, recorder)
        with recorder.phase("index", "making the root's index"):
            index = build_index(image)
        mountpoint = os.path.join(directory, "root")
        os.mkdir(mountpoint)
        with tempfile.TemporaryDirectory(prefix=".bootc-live.", dir=parent) as part, mounted_index(index, mountpoint):
            made = os.path.join(part, "tree")
            with recorder.phase("copy", f"copying to {arguments.directory}"):
                run(
                    ["cp", "-a", "--sparse=auto", "--", mountpoint, made], hint="free some space, or choose another DIR"
                )
            if os.path.isdir(target):
                os.rmdir(target)
            os.rename(made, target)
    return 0
