"""``bootc-live guest run-parts``: run the programs of directories."""

from __future__ import annotations

import argparse

from bootc_live.landing.guest.tools.run_parts import run_parts
from bootc_live.system.cleanup.guard import succeed_with


def main(arguments: argparse.Namespace) -> int:
    """Let the parent run them: what they mount is for whoever called this. Raise BootcLiveError."""
    succeed_with(run_parts, arguments.parts, arguments.arg)
    return 0
