"""``bootc-live verify``: read all of a deployment, compare it with its digests, and these with the signatures."""

from __future__ import annotations

import argparse

from bootc_live.base.errors import RootfsError, SourceError, TrustError
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.cli.disk.common import machine_access, opened_machine
from bootc_live.landing.disk.check.signature import LEFT_OUT, SignatureCheck, Verdict, check_signature
from bootc_live.landing.disk.deployments import Deployment
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.disk.storage.slots import WrongBlock, wrong_in_slot
from bootc_live.rootfs.layouts.composefs.check import WrongObject, wrong_objects

# sysexits.h, EX_UNAVAILABLE: nothing is known to be wrong.
_NOT_REACHED = 69


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError, also if something was changed or is not signed as it has to be."""
    with opened_machine(arguments) as (machine, directory):
        found = [machine.current()] if not arguments.all else machine.disk.all()
        one, many = ("block", "blocks") if machine.settings.slots else ("object", "files")
        wrong = {each.number: _wrong(machine, each) for each in found}
        checks = {each.number: LEFT_OUT for each in found}
        if not arguments.offline:
            recorder = Recorder()
            access = machine_access(machine.settings, recorder, directory)
            checks = {each.number: check_signature(machine.settings, each, access, recorder) for each in found}
    if arguments.json:
        print_json(
            {
                str(number): {
                    "changed": [each._asdict() for each in parts],
                    "signature": str(checks[number].verdict),
                    "why": checks[number].text,
                }
                for number, parts in wrong.items()
            }
        )
    else:
        files = {
            number: f"{len(parts)} {many} were changed" if parts else "nothing was changed"
            for number, parts in wrong.items()
        }
        print_results([f"deployment {number}: {said}; {checks[number].text}" for number, said in files.items()])
    bad = [f"{one} {each[0]}: {each.problem}" for parts in wrong.values() for each in parts]
    if bad:
        raise RootfsError(
            f"{len(bad)} {many} were changed: {'; '.join(sorted(set(bad))[:5])}",
            hint="check the disk; "
            + (
                "bootc-live fsck --repair fetches the slot of a deployment that does not run"
                if machine.settings.slots
                else "bootc-live fsck --repair fetches them"
            ),
        )
    _raise_for(checks)
    return 0


def _raise_for(checks: dict[int, SignatureCheck]) -> None:
    """Raise TrustError if an image is not signed as it has to be, and SourceError if that is not known."""
    for number, check in checks.items():
        if check.verdict is Verdict.REFUSED:
            raise TrustError(
                f"deployment {number} is not signed as this machine wants it: {check.text}", hint=check.hint
            )
    for number, check in checks.items():
        if check.verdict is Verdict.NOT_REACHED:
            error = SourceError(
                f"nothing was changed, but signatures of deployment {number} cannot be checked: {check.text}",
                hint=f"{check.hint}; --offline leaves this out",
            )
            error.status = _NOT_REACHED
            raise error


def _wrong(machine: Machine, deployment: Deployment) -> list[WrongBlock] | list[WrongObject]:
    if deployment.slot:
        return list(wrong_in_slot(deployment))
    return list(wrong_objects(machine.disk.top, deployment.root))
