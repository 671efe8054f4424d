"""``bootc-live boot``: the whole pipeline, from a kernel command line to a root to switch to."""

from __future__ import annotations

import argparse
import os
from contextlib import AbstractContextManager

from bootc_live.base.clock import raise_clock
from bootc_live.base.errors import ConfigError
from bootc_live.base.interrupt import ignore_interrupts
from bootc_live.base.log import Recorder
from bootc_live.base.memory import peak_memory
from bootc_live.cli.checks import require_root
from bootc_live.config.cmdline import HINT, parse_cmdline
from bootc_live.image.acquire import acquire
from bootc_live.landing.receipt import DEFAULT_PATH, Figures, make_receipt, written_receipt
from bootc_live.landing.sysroot import SysrootLanding, check_sysroot
from bootc_live.rootfs.index import build_index
from bootc_live.rootfs.live_root import Writable, mounted_root
from bootc_live.rootfs.workspace import directory_workspace, ram_workspace
from bootc_live.source.access import access_for


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raises BootcLiveError."""
    config = parse_cmdline(arguments.cmdline, os.environ)
    if not config.sources:
        raise ConfigError("the kernel command line has no root=bootc-live:…", hint=HINT)
    require_root("boot")
    check_sysroot(arguments.sysroot)
    recorder = Recorder(quiet=config.quiet)
    with peak_memory() as peak, workspace(arguments.workdir) as directory:
        set_clock = raise_clock()
        if set_clock is not None:
            recorder.warn(set_clock)
        access = access_for(config, recorder.warn, directory)
        acquired = acquire(config.sources, access, os.path.join(directory, "root.erofs"), recorder)
        image = acquired.image
        with recorder.phase("index", "making the root's index"):
            index = build_index(image)
        writable = Writable(config.root_rw, config.etc_rw, config.var_rw, config.rootflags)
        with mounted_root(index, directory, writable, recorder) as root:
            landing = SysrootLanding(root, arguments.sysroot, image.resolved.typed)
            landing.prepare()
            peak.sample()
            if not arguments.dry_run:
                figures = Figures(index.metadata, peak.used, access.traffic.hosts)
                receipt = make_receipt(config, acquired, figures, recorder)
                with written_receipt(receipt, arguments.receipt or DEFAULT_PATH):
                    # The point of no return: a half-attached root is worse than a late end.
                    ignore_interrupts()
                    landing.commit()
    recorder.say("dry run: nothing was handed over" if arguments.dry_run else f"the root is at {arguments.sysroot}")
    return 0


def workspace(chosen: str | None) -> AbstractContextManager[str]:
    """Give the place to build in: a private part of a chosen directory, or an own tmpfs."""
    if chosen is None:
        return ram_workspace()
    if not os.path.isdir(chosen):
        raise ConfigError(f"--workdir {chosen!r} is not a directory", hint="create it, or leave --workdir out")
    return directory_workspace(chosen)
