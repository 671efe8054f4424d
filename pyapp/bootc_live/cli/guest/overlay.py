"""``bootc-live guest overlay``: mount layers over a root."""

from __future__ import annotations

import argparse

from bootc_live.cli.options.arguments import size_argument
from bootc_live.landing.guest.tools.overlay import Memory, mount_overlay


def main(arguments: argparse.Namespace) -> int:
    """Run the tool; raise BootcLiveError."""
    changes: str | Memory = arguments.cache
    if arguments.tmpfs is not None:
        changes = Memory(size_argument("--tmpfs", arguments.tmpfs))
    elif arguments.volatile:
        changes = Memory()
    mount_overlay(arguments.path, arguments.layers, changes)
    return 0
