"""``bootc-live verify``: read all of a deployment, and compare it with its digests."""

from __future__ import annotations

import argparse

from bootc_live.base.errors import RootfsError
from bootc_live.base.output import print_json, print_results
from bootc_live.cli.disk.common import opened_machine
from bootc_live.landing.disk.deployments import Deployment
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.disk.storage.slots import WrongBlock, wrong_in_slot
from bootc_live.rootfs.layouts.composefs.check import WrongObject, wrong_objects


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError, also if something was changed."""
    with opened_machine(arguments) as (machine, _):
        found = [machine.current()] if not arguments.all else machine.disk.all()
        one, many = ("block", "blocks") if machine.settings.slots else ("object", "files")
        wrong = {each.number: _wrong(machine, each) for each in found}
    bad = [f"{one} {each[0]}: {each.problem}" for parts in wrong.values() for each in parts]
    if arguments.json:
        print_json({str(number): [each._asdict() for each in parts] for number, parts in wrong.items()})
    if bad:
        raise RootfsError(
            f"{len(bad)} {many} were changed: {'; '.join(sorted(set(bad))[:5])}",
            hint="check the disk, boot another deployment, and upgrade",
        )
    if not arguments.json:
        print_results([f"deployment {number}: nothing was changed" for number in wrong])
    return 0


def _wrong(machine: Machine, deployment: Deployment) -> list[WrongBlock] | list[WrongObject]:
    if deployment.slot:
        return list(wrong_in_slot(deployment))
    return list(wrong_objects(machine.disk.top, deployment.root))
