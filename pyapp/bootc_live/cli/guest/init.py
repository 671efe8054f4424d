"""``bootc-live guest``: set a container up as a YAML file says, and become the init of the next root."""

from __future__ import annotations

import argparse


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    raise NotImplementedError(arguments.config)
