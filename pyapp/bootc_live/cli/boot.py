"""``bootc-live boot``: from a kernel command line to a root to switch to, or to the image's own kernel."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from functools import partial

from bootc_live.base.errors import ConfigError, ImageError, LandingError, OutOfMemoryError, RunError
from bootc_live.base.log import Recorder
from bootc_live.cli.options.arguments import require_root, workspace
from bootc_live.config.cmdline.parse import HINT, parse_cmdline
from bootc_live.config.model import Backing, Config, Kexec
from bootc_live.config.next_kernel.handover import LAYOUT, Handover, read_handover
from bootc_live.config.source_spec import DeploymentRoot
from bootc_live.landing.kexec.kexec import KexecLanding, reachable, unreachable_archives
from bootc_live.landing.kexec.next_kernel import plan_handover
from bootc_live.landing.measure import require_measure
from bootc_live.landing.sysroot.relabel import DEFAULT_DIRECTORY
from bootc_live.landing.sysroot.sysroot import SysrootLanding
from bootc_live.pipeline import Run, land_deployment, land_kernel, land_root
from bootc_live.receipt.file import DEFAULT_PATH
from bootc_live.rootfs.boot_files.extract import boot_file_recipe
from bootc_live.rootfs.layouts.mountable import obstacle, require_overlay, require_verity
from bootc_live.rootfs.memory.host import present_means
from bootc_live.rootfs.plan import check_options
from bootc_live.rootfs.workspace import ram_workspace
from bootc_live.rootfs.writable.state import require_state
from bootc_live.source.access import Access, access_for
from bootc_live.system.clock import raise_clock
from bootc_live.system.memory import peak_memory, trim_heap, unreclaimable_bytes

_INTERVAL = 0.02


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    config = parse_cmdline(arguments.cmdline, os.environ)
    if not config.sources and config.deployment is None:
        raise ConfigError("the kernel command line has no root=bootc-live:…", hint=HINT)
    require_root("boot")
    if arguments.dry_run:
        # A dry run must not change the partition.
        config = replace(config, parts=replace(config.parts, state=None, state_required=False))
    recorder = Recorder(quiet=config.quiet)
    landing = _sysroot_landing(config, arguments)
    landing.check()
    require_measure(config.trust.measure)
    if config.deployment is not None:
        _boot_deployment(config, config.deployment, landing, arguments, recorder)
        return 0
    before = read_handover()
    if config.kexec is not None and before is not None:
        recorder.warn("bootc.kexec is ignored: it has already started this kernel")
    elif config.kexec is not None:
        if _boot_by_kexec(config, config.kexec, arguments, recorder):
            return 0
        landing.modules_required = True
    _boot_here(config, landing, arguments, recorder, before)
    return 0


def _boot_deployment(
    config: Config,
    deployment: DeploymentRoot,
    landing: SysrootLanding,
    arguments: argparse.Namespace,
    recorder: Recorder,
) -> None:
    with workspace(arguments.workdir) as directory:
        land_deployment(config, deployment, landing, directory, arguments.cmdline, recorder, dry_run=arguments.dry_run)


def _boot_here(
    config: Config,
    landing: SysrootLanding,
    arguments: argparse.Namespace,
    recorder: Recorder,
    before: Handover | None,
) -> None:
    require_state(config.parts)
    require_overlay(config)
    require_verity(config)
    means = replace(present_means(), obstacle=obstacle)
    check_options(config, means, recorder)
    ours = arguments.workdir is None or config.backing != Backing()
    with peak_memory() as peak, workspace(arguments.workdir, config.backing) as directory:
        access, sources = _access(config, recorder, directory, before), config.sources
        if before is not None and before.digest is not None:
            # The first kernel has checked the requested digest, which may be that of an index.
            access.pin, sources = before.digest, before.sources(sources)
        run = Run(config, arguments.cmdline, sources, access, directory, recorder, peak, before, arguments.dry_run)
        land_root(run, landing, means, ours=ours)


def _boot_by_kexec(config: Config, kexec: Kexec, arguments: argparse.Namespace, recorder: Recorder) -> bool:
    """Continue in the image's own kernel; return False if the boot has to continue here; raise BootcLiveError."""
    sources = config.sources
    if not kexec.reuse:
        sources = reachable(sources)
        for warning in unreachable_archives(config.sources):
            recorder.warn(warning)
    try:
        with (
            peak_memory(unreclaimable_bytes, _INTERVAL) as peak,
            ram_workspace(Backing(size=config.backing.size)) as directory,
        ):
            landing = KexecLanding(
                kexec, sources, arguments.cmdline, directory, recorder, arguments.errors_to, dry_run=arguments.dry_run
            )
            landing.check()
            access = _access(config, recorder, directory)
            cmdline = arguments.cmdline
            run = Run(config, cmdline, sources, access, directory, recorder, peak, dry_run=arguments.dry_run)
            record = LAYOUT.lstrip("/") if kexec.reuse else None
            land_kernel(run, landing, boot_file_recipe(directory, recorder, record, partial(plan_handover, config)))
            return True
    except (ImageError, LandingError, OutOfMemoryError, RunError) as error:
        if not kexec.boot_on_failure:
            raise
        recorder.warn(f"kexec is not possible: {error.message}; continuing with this kernel")
    trim_heap()
    return False


def _sysroot_landing(config: Config, arguments: argparse.Namespace) -> SysrootLanding:
    return SysrootLanding(
        arguments.sysroot,
        arguments.receipt or DEFAULT_PATH,
        arguments.relabel_to or DEFAULT_DIRECTORY,
        arguments.cmdline,
        modules_required=config.modules_required,
    )


def _access(config: Config, recorder: Recorder, directory: str, before: Handover | None = None) -> Access:
    """Return the access to sources; first correct the clock if it is too early for certificates."""
    set_clock = raise_clock()
    if set_clock is not None:
        recorder.warn(set_clock)
    # The first kernel has checked the signatures, and it could have started anything else than this. It pins a
    # docker-archive on the command line, because that has no manifest digest.
    checked = before is not None and (before.digest or config.pin) is not None
    access = access_for(config, recorder.warn, directory, check_signatures=not checked)
    if access.trust.warning:
        recorder.warn(access.trust.warning)
    return access
