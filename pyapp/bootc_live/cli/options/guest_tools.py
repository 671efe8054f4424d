"""The command lines of the tools of ``bootc-live guest``, which hooks find by name."""

from __future__ import annotations

import argparse


def add_tools(tools: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add a parser for each tool; ``verb`` is a module of ``cli``."""
    _tool(tools, "overlay", "mount layers on top of each other, the last one uppermost")
    _tool(tools, "idmap", "mount a directory with other owners (mount_setattr(2))")
    _tool(tools, "initctl", "serve /dev/initctl: turn requests to power off or reboot into signals for the init")
    _tool(tools, "run-parts", "run all programs of directories, in order")


def _tool(tools: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str) -> argparse.ArgumentParser:
    parser = tools.add_parser(name, help=what)
    parser.set_defaults(verb=f"guest.{name.replace('-', '_')}")
    return parser
