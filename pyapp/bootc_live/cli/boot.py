"""``bootc-live boot``: the whole pipeline, from a kernel command line to a root to switch to."""

from __future__ import annotations

import argparse
import gc
import os
from dataclasses import replace

from bootc_live.base.errors import ConfigError
from bootc_live.base.log import Recorder
from bootc_live.cli.arguments import require_root, workspace
from bootc_live.cli.kexec import boot_by_kexec, prepared_access
from bootc_live.config.cmdline.parse import HINT, parse_cmdline
from bootc_live.config.model import Backing
from bootc_live.config.next_kernel.handover import read_handover
from bootc_live.image.acquire import acquire
from bootc_live.landing.sysroot.modules import check_modules
from bootc_live.landing.sysroot.relabel import DEFAULT_DIRECTORY
from bootc_live.landing.sysroot.services import check_services
from bootc_live.landing.sysroot.sysroot import SysrootLanding, check_sysroot
from bootc_live.receipt.receipt import DEFAULT_PATH, Figures, make_receipt
from bootc_live.rootfs.layouts.mountable import obstacle, require_overlay
from bootc_live.rootfs.maker import root_maker
from bootc_live.rootfs.memory.admitting import present_means
from bootc_live.rootfs.ram import settle
from bootc_live.rootfs.writable.live_root import mounted_root
from bootc_live.rootfs.writable.state import require_state
from bootc_live.system.memory import peak_memory, trim_heap


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raises BootcLiveError."""
    config = parse_cmdline(arguments.cmdline, os.environ)
    if not config.sources:
        raise ConfigError("the kernel command line has no root=bootc-live:…", hint=HINT)
    require_root("boot")
    # Hundreds of thousands of objects are made that are all needed to the end: looking for garbage only takes time.
    gc.disable()
    check_sysroot(arguments.sysroot)
    recorder = Recorder(quiet=config.quiet)
    before = read_handover()
    if config.kexec is not None and before is None:
        other = boot_by_kexec(config, config.kexec, arguments, recorder)
        if other is None:
            recorder.say("dry run: the next kernel was loaded, and is not any more")
            return 0
        config = other
    elif config.kexec is not None:
        recorder.warn("bootc.kexec is ignored: this kernel was itself started by it")
    # A partition keeps what is written there: a dry run stays away from it.
    parts = replace(config.parts, state=None, state_required=False) if arguments.dry_run else config.parts
    require_state(parts)
    require_overlay(config)
    means = replace(present_means(), obstacle=obstacle)
    in_ram = arguments.workdir is None or config.backing != Backing()
    with (
        peak_memory() as peak,
        workspace(arguments.workdir, config.backing) as directory,
        root_maker(config, directory, recorder, means, ours=in_ram) as maker,
    ):
        access = prepared_access(config, recorder, directory)
        sources = config.sources
        if before is not None and before.digest is not None:
            # It was checked against what was asked for; that may have been an index, which is not handed over.
            access.pin, sources = before.digest, before.sources(sources)
        acquired = acquire(sources, access, maker.path, recorder, maker.takers)
        image = acquired.image
        built = maker.make(image)
        trim_heap()
        settle(directory)
        with mounted_root(built, directory, parts, recorder, image.resolved.identity, labelled=maker.labelled) as root:
            landing = SysrootLanding(root, arguments.sysroot, image.resolved.typed)
            landing.prepare()
            lacking = check_modules(root.path, image.resolved.typed, required=config.modules_required)
            if lacking is not None:
                recorder.warn(lacking)
            services = check_services(root.path, image.resolved.typed, arguments.cmdline)
            if services is not None:
                recorder.warn(services)
            peak.sample()
            if not arguments.dry_run:
                figures = Figures(
                    built.metadata,
                    peak.used,
                    access.traffic.hosts,
                    built,
                    maker.library,
                    maker.admission,
                    labelled=maker.labelled,
                    state=root.state,
                )
                receipt = make_receipt(config, acquired, figures, recorder, before)
                landing.commit(receipt, arguments.receipt or DEFAULT_PATH, arguments.relabel_to or DEFAULT_DIRECTORY)
    recorder.say("dry run: nothing was handed over" if arguments.dry_run else f"the root is at {arguments.sysroot}")
    return 0
