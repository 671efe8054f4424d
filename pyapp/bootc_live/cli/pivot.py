"""``bootc-live pivot``: replace the root of this running machine with an image."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace

from bootc_live.base.errors import BootcLiveError, ConfigError, LandingError
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_details, print_json
from bootc_live.cli.arguments import desk_access, layered_argument, require_root, workspace
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.model import Config
from bootc_live.image.candidate import Candidate
from bootc_live.landing.pivot.contain import ContainedLanding
from bootc_live.landing.pivot.machine import Machine, Way, running_machine, ways
from bootc_live.landing.pivot.plan import PivotPlan
from bootc_live.landing.pivot.program import Wanted
from bootc_live.landing.pivot.soft_reboot import SoftRebootLanding
from bootc_live.pipeline import Run, land_root
from bootc_live.receipt.file import DEFAULT_PATH
from bootc_live.rootfs.layouts.mountable import obstacle, require_overlay
from bootc_live.rootfs.memory.host import present_means
from bootc_live.rootfs.plan import RootPlan, check_options
from bootc_live.system.cleanup.guard import call_in_parent
from bootc_live.system.memory import peak_memory

_CONTAINER = "/run/systemd/container"


class _OnlyPlannedError(BootcLiveError):
    """A dry run has said what would be done."""


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    spec = layered_argument(arguments)
    config = _config(arguments)
    require_root("pivot")
    machine = running_machine()
    way = _way(arguments, machine)
    if not (arguments.yes or arguments.dry_run or way is Way.CONTAIN or os.isatty(0)):
        raise ConfigError("nobody can be asked here", hint="look at the plan with --dry-run, then use --yes")
    gc.disable()
    recorder = Recorder()
    landing = _landing(way, arguments)
    landing.check()
    require_overlay(config)
    means = replace(present_means(), obstacle=obstacle)
    check_options(config, means, recorder)

    def approve(found: Candidate, root: RootPlan) -> None:
        plan = PivotPlan(found.image, root, machine, way, _wanted(arguments), arguments.keep_old_root)
        _approve(plan, arguments)

    try:
        with peak_memory() as peak, workspace(arguments.workdir, config.backing) as directory:
            access = desk_access(arguments, recorder, directory)
            run = Run(config, "", [spec], access, directory, recorder, peak)
            land_root(run, landing, means, ours=arguments.workdir is None, approve=approve)
    except _OnlyPlannedError:
        recorder.say("dry run: nothing was fetched or changed")
    return 0


def _config(arguments: argparse.Namespace) -> Config:
    """Return the settings of a boot with the arguments of ``--cmdline``; by default, the whole root is writable."""
    config = parse_cmdline(arguments.cmdline, {})
    if config.sources or config.kexec is not None:
        raise ConfigError(f"'--cmdline {arguments.cmdline}' has root= or bootc.kexec", hint="leave these out")
    named = {word.partition("=")[0] for word in arguments.cmdline.split()}
    return config if "rw" in named else replace(config, parts=replace(config.parts, root=True))


def _way(arguments: argparse.Namespace, machine: Machine) -> Way:
    if arguments.contain:
        return Way.CONTAIN
    possible = [way for way in ways(machine) if way is not Way.CONTAIN]
    wanted = Way(arguments.via) if arguments.via else None
    if wanted is not None and wanted not in possible:
        raise LandingError(f"'--via {wanted}' is not possible here: {_init(machine)}", hint=_hint(possible))
    if not possible:
        raise LandingError(f"no way to replace the root is known here: {_init(machine)}", hint=_hint(possible))
    return wanted or possible[0]


def _init(machine: Machine) -> str:
    version = f" {machine.systemd}" if machine.systemd else ""
    return f"the first process is {machine.init}{version}; a soft reboot takes systemd 254 or later"


def _hint(possible: Sequence[Way]) -> str:
    others = f"leave --via out for {possible[0]}, or " if possible else ""
    return f"{others}use --contain to run the root in namespaces"


def _landing(way: Way, arguments: argparse.Namespace) -> ContainedLanding | SoftRebootLanding:
    wanted = _wanted(arguments)
    if way is Way.CONTAIN:
        return ContainedLanding(wanted, network=arguments.network == "host")
    return SoftRebootLanding(wanted, DEFAULT_PATH, arguments.keep_old_root)


def _wanted(arguments: argparse.Namespace) -> Wanted:
    return Wanted(arguments.entrypoint, tuple(arguments.command) if arguments.command else None)


def _approve(plan: PivotPlan, arguments: argparse.Namespace) -> None:
    """Show the plan, and ask; raise LandingError if the answer is no."""
    if arguments.dry_run and arguments.json:
        print_json(plan.data())
    elif plan.way is not Way.CONTAIN or arguments.dry_run:
        print_details(plan.text())
    if arguments.dry_run:
        raise _OnlyPlannedError("dry run", hint="-")
    if plan.way is Way.CONTAIN or arguments.yes:
        return
    if not _agreed():
        raise LandingError("the pivot was not confirmed", hint="nothing was changed")


def _agreed() -> bool:
    # The parent is in the foreground of the terminal; this process reads, so that signals end it as ever.
    call_in_parent(give_terminal, os.getpgrp())
    try:
        sys.stderr.write("Replace the running system? [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    finally:
        call_in_parent(give_terminal, 0)


def give_terminal(group: int) -> None:
    """Put a process group into the foreground of the terminal, 0 for this process's own."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        os.tcsetpgrp(0, group or os.getpgrp())
    finally:
        signal.signal(signal.SIGTTOU, before)
