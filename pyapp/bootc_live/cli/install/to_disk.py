"""``bootc-live install to-disk``: install an image on a whole disk, or in a file that holds one."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace

from bootc_live.base.log import Recorder
from bootc_live.cli.install.common import install_on_disk, slot_size, wishes_of
from bootc_live.cli.options.arguments import desk_access, require_root, size_argument, source_argument, workspace
from bootc_live.landing.disk.partitions.choose import DiskChoice
from bootc_live.landing.disk.partitions.model import FileSystem


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    spec = source_argument(arguments)
    require_root("install")
    wishes = replace(
        wishes_of(arguments),
        slot_size=slot_size(arguments.storage, arguments.slot_size),
        xbootldr=None if arguments.xbootldr is None else size_argument("--xbootldr", arguments.xbootldr),
    )
    size = None if arguments.size is None else size_argument("--size", arguments.size)
    choice = DiskChoice(arguments.device, arguments.serial, arguments.smallest, size)
    recorder = Recorder()
    with workspace(arguments.workdir) as directory:
        install_on_disk(
            choice,
            spec,
            wishes,
            desk_access(arguments, recorder, directory),
            directory,
            recorder,
            filesystem=FileSystem(arguments.filesystem),
            wipe=arguments.wipe,
            kept=[] if arguments.workdir is None else [os.path.abspath(arguments.workdir)],
        )
    return 0
