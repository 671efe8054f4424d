"""The command line of ``bootc-live guest``."""

from __future__ import annotations

import argparse

from bootc_live.cli.options.guest_tools import add_tools


def add_guest(parser: argparse.ArgumentParser) -> None:
    """Add the options of the init, and its tools as verbs of their own; ``verb`` is a module of ``cli``."""
    parser.set_defaults(verb="guest.init")
    parser.add_argument(
        "--config", metavar="FILE", help="the guest's configuration [/mnt/init.yml if it exists], see docs/guest.md"
    )
    parser.add_argument("--check", action="store_true", help="only check the configuration, and change nothing")
    parser.add_argument(
        "--override-exec",
        action="store_true",
        help="run the words after -- in place of exec.command; without this option, they are added to it",
    )
    parser.set_defaults(command=[])
    add_tools(parser.add_subparsers(metavar="TOOL", title="tools"))
