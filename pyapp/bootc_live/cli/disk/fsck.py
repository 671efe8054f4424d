"""``bootc-live fsck``: check everything that is on the disk, and repair it."""

from __future__ import annotations

import argparse

from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.cli.disk.common import machine_access, opened_machine
from bootc_live.disk import DiskRun, repair_on
from bootc_live.landing.disk.check.fault import Fault
from bootc_live.landing.disk.check.faults import machine_faults

# fsck(8): there are errors, and they were not corrected.
_LEFT = 4


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; return 4 if something is wrong and stays so. Raise BootcLiveError if it cannot be checked."""
    recorder = Recorder()
    with opened_machine(arguments) as (machine, directory):
        found = left = machine_faults(machine)
        if found and arguments.repair:
            access = machine_access(machine.settings, recorder, directory)
            run = DiskRun(machine.disk, machine.boot, machine.settings, access, directory, recorder)
            repair_on(run, machine, found)
            left = machine_faults(machine)
        count = len(machine.disk.all())
    repaired = [fault for fault in found if fault not in left]
    if arguments.json:
        rows = [*((fault, True) for fault in repaired), *((fault, False) for fault in left)]
        print_json({"deployments": count, "faults": [_row(fault, repaired=done) for fault, done in rows]})
    else:
        print_results([*(f"repaired: {fault}" for fault in repaired), *(f"{fault}; {fault.hint}" for fault in left)])
        if not found:
            print_results([f"nothing is wrong with {count} deployment{'s' if count != 1 else ''}"])
    return _LEFT if left else 0


def _row(fault: Fault, *, repaired: bool) -> dict[str, object]:
    return {
        "where": fault.where,
        "problem": fault.problem,
        "hint": fault.hint,
        "deployments": list(fault.deployments),
        "repaired": repaired,
    }
