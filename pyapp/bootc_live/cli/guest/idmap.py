"""``bootc-live guest idmap``: mount a directory with other owners."""

from __future__ import annotations

import argparse

from bootc_live.config.guest.map_arguments import parse_map_arguments
from bootc_live.landing.guest.tools.idmap import mount_idmapped


def main(arguments: argparse.Namespace) -> int:
    """Run the tool; raise BootcLiveError."""
    owners = parse_map_arguments(arguments.map)
    mount_idmapped(owners, arguments.source, arguments.target, recursive=arguments.recursive)
    return 0
