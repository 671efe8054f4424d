"""``bootc-live status``: the receipt of this boot, and what is on this system's disk."""

from __future__ import annotations

import argparse

from bootc_live.base.output import print_json, print_results
from bootc_live.receipt.file import DEFAULT_PATH, read_receipt
from bootc_live.receipt.text import describe


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise LandingError if there is no receipt."""
    receipt = read_receipt(arguments.receipt or DEFAULT_PATH) if arguments.disk is None else {}
    lines = describe(receipt) if receipt else []
    if arguments.disk is not None or (arguments.receipt is None and "deployment" in receipt):
        # A late import: other systems have no disk.
        from bootc_live.cli.disk.common import opened_machine
        from bootc_live.landing.disk.status import describe_machine, machine_status

        with opened_machine(arguments) as (machine, _):
            disk = machine_status(machine)
        receipt, lines = {**receipt, "disk": disk}, [*lines, *describe_machine(disk)]
    if arguments.json:
        print_json(receipt)
    else:
        print_results(lines)
    return 0
