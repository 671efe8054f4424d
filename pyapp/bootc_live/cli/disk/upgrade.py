"""``bootc-live upgrade``: add the newest image of this machine's source as the deployment that boots next."""

from __future__ import annotations

import argparse

from bootc_live.base.errors import LandingError
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.cli.disk.common import machine_access, opened_machine
from bootc_live.cli.disk.restart import restarting
from bootc_live.config.source_spec import parse_source
from bootc_live.disk import DiskRun, download_on, mount_next_root, upgrade_on
from bootc_live.image.candidate import newest
from bootc_live.landing.disk.deployments import PassedOver
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.disk.running.soft_reboot import requested
from bootc_live.landing.disk.upgrade import failed_images, finalize

# sysexits.h, EX_NOPERM: as other programs tell that there is something to do.
_NEWER = 77


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; return 77 if there is a newer image and it was only asked for. Raise BootcLiveError."""
    recorder = Recorder()
    if arguments.finalize:
        return _finalize(arguments, recorder)
    with restarting(arguments, recorder) as restart:
        with opened_machine(arguments) as (machine, directory):
            settings = machine.settings
            access = machine_access(settings, recorder, directory)
            spec, digest = newest(parse_source(settings.source), access, recorder)
            why = _no_upgrade(machine, digest)
            result: dict[str, object] = {"image": digest, "newer": not why, "deployment": None}
            said = f"{digest} is newer"
            run = DiskRun(machine.disk, machine.boot, settings, access, directory, recorder)
            if not why and arguments.download_only:
                download_on(run, machine, spec, digest)
                said = f"{digest} is on the disk, and not what boots next"
            elif not why and not arguments.check:
                result["deployment"] = upgrade_on(run, machine, spec, digest).number
                said = f"{digest} boots next"
            if not arguments.check and not arguments.download_only:
                restart.prepare(machine, directory)
            result["fetched"] = access.traffic.total
        if arguments.json:
            print_json(result)
        else:
            print_results([why or said])
    return _NEWER if arguments.check and not why else 0


def _finalize(arguments: argparse.Namespace, recorder: Recorder) -> int:
    # Whatever happens, somebody has asked for this stop of the system, and not for the next one.
    wanted = requested() if arguments.disk is None else None
    with opened_machine(arguments) as (machine, directory):
        following = finalize(machine, directory, recorder)
        recorder.say("nothing to do" if following is None else f"/etc of deployment {following.number} is up to date")
        default = machine.loader.default(machine.boot)
        if default is not None and default.name.deployment == wanted:
            mount_next_root(machine, default, directory, recorder, dry_run=False)
    return 0


def _no_upgrade(machine: Machine, digest: str) -> str:
    """Return why the image with a digest is not added; empty if it has to be."""
    default = machine.loader.default(machine.boot)
    if default is not None and machine.disk.read(default.name.deployment).image == digest:
        return f"no change: {digest} boots next"
    if digest in failed_images(machine):
        return f"no change: {digest} has failed to boot; a newer image is taken, and bootc-live switch takes this one"
    if digest in machine.disk.passed_over(PassedOver.LEFT):
        return (
            f"no change: {digest} was left by a rollback; a newer image is taken, and bootc-live rollback or "
            "bootc-live switch goes back to this one"
        )
    if not machine.disk.all():
        raise LandingError("this machine has no deployment", hint="install one with: bootc-live install")
    return ""
