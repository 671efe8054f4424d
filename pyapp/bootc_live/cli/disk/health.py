"""``bootc-live health``: the running deployment is good, so nothing falls back from it; or it is not."""

from __future__ import annotations

import argparse

from bootc_live.base.errors import RunError
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.cli.disk.common import opened_machine
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.disk.upgrade import bless
from bootc_live.system.run import run


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    with opened_machine(arguments) as (machine, _):
        number = machine.current().number
        if arguments.failed:
            health, stays = "failed", _stays(machine, number)
        else:
            health, stays = "good", ""
            bless(machine, Recorder())
    if arguments.json:
        print_json({"deployment": number, "health": health})
    else:
        print_results([f"deployment {number} {'has failed' if arguments.failed else 'is good'}{stays and '; '}{stays}"])
    if arguments.failed and not stays:
        if arguments.disk is not None:
            raise RunError("another system than the running one cannot be rebooted", hint="boot it")
        run(["systemctl", "reboot"], hint="reboot by hand")
    return 0


def _stays(machine: Machine, number: int) -> str:
    """Return why a deployment that has failed runs on; empty if a reboot helps."""
    entries = machine.entries()
    if any(entry.name.left is None for entry in entries if entry.name.deployment == number):
        return "it was good before, so the boot loader stays with it"
    if not any(entry.name.left != 0 for entry in entries if entry.name.deployment != number):
        return "no other deployment is left to boot"
    return ""
