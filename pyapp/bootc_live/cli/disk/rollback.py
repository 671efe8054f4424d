"""``bootc-live rollback``: let an earlier deployment boot next."""

from __future__ import annotations

import argparse

from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.cli.disk.common import opened_machine
from bootc_live.cli.disk.restart import restarting
from bootc_live.landing.disk.upgrade import rollback


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    recorder = Recorder()
    with restarting(arguments, recorder) as restart:
        with opened_machine(arguments) as (machine, directory):
            deployment = machine.disk.read(rollback(machine, arguments.to, recorder).name.deployment)
            restart.prepare(machine, directory)
        if arguments.json:
            print_json({"image": deployment.image, "deployment": deployment.number})
        else:
            print_results([f"deployment {deployment.number}, {deployment.image}, boots next"])
    return 0
