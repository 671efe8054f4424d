"""``bootc-live pin``: keep a deployment whatever is pruned."""

from __future__ import annotations

import argparse

from bootc_live.base.output import print_json, print_results
from bootc_live.cli.disk.common import opened_machine


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    with opened_machine(arguments) as (machine, _):
        machine.disk.pin(arguments.number, pinned=not arguments.unpin)
    if arguments.json:
        print_json({"deployment": arguments.number, "pinned": not arguments.unpin})
    else:
        print_results([f"deployment {arguments.number} is {'not ' if arguments.unpin else ''}pinned"])
    return 0
