"""``bootc-live switch``: let a machine have another image from now on."""

from __future__ import annotations

import argparse
from dataclasses import replace

from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.cli.disk.common import machine_access, opened_machine
from bootc_live.cli.disk.restart import restarting
from bootc_live.cli.options.arguments import source_argument
from bootc_live.config.host.trust import trust_files
from bootc_live.config.source_spec import written
from bootc_live.disk import DiskRun, upgrade_on
from bootc_live.image.candidate import newest


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    spec = source_argument(arguments)
    recorder = Recorder()
    with restarting(arguments, recorder) as restart:
        with opened_machine(arguments) as (machine, directory):
            wished = trust_files(arguments.key, arguments.policy)
            settings = replace(
                machine.settings,
                source=written(spec),
                label=arguments.label,
                unsecure=arguments.unsecure,
                trust=wished if wished.files else machine.settings.trust,
            )
            access = machine_access(settings, recorder, directory)
            fixed, digest = newest(spec, access, recorder)
            run = DiskRun(machine.disk, machine.boot, settings, access, directory, recorder)
            deployment = upgrade_on(run, machine, fixed, digest)
            restart.prepare(machine, directory)
        if arguments.json:
            print_json({"image": digest, "deployment": deployment.number, "fetched": access.traffic.total})
        else:
            print_results([f"{digest} boots next; newer images come from {spec.source_text}"])
    return 0
