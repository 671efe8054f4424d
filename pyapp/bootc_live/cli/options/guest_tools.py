"""The command lines of the tools of ``bootc-live guest``, which hooks find by name."""

from __future__ import annotations

import argparse

_CACHE = "/mnt/cache/overlay"


def add_tools(tools: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add a parser for each tool; ``verb`` is a module of ``cli``."""
    _overlay(_tool(tools, "overlay", "mount layers on top of each other, the last one uppermost"))
    _idmap(_tool(tools, "idmap", "mount a directory with other owners (mount_setattr(2))"))
    _initctl(
        _tool(tools, "initctl", "serve /dev/initctl: turn requests to power off or reboot into signals for the init")
    )
    _run_parts(_tool(tools, "run-parts", "run all programs of directories, in order"))


def _tool(tools: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str) -> argparse.ArgumentParser:
    parser = tools.add_parser(name, help=what)
    parser.set_defaults(verb=f"guest.{name.replace('-', '_')}")
    return parser


def _overlay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layers", nargs="*", metavar="LAYER", help="a directory to put on top of all before")
    parser.add_argument(
        "--path", default="/mnt/root", metavar="DIR", help="the lowest layer, and where to mount all [%(default)s]"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--cache", default=_CACHE, metavar="DIR", help="keep changes in DIR, which is made if missing [%(default)s]"
    )
    where.add_argument("--volatile", action="store_true", help="keep changes in RAM, as long as it is mounted")
    where.add_argument(
        "--tmpfs", metavar="SIZE", help="the same, with at most SIZE, in MiB or such as 2G [half of the RAM]"
    )


def _idmap(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--map",
        "--map-mount",
        action="append",
        required=True,
        metavar="KIND:FROM:TO:COUNT",
        help="show owners from FROM on as those from TO on; KIND is b for users and groups, u or g for one of them",
    )
    parser.add_argument("--recursive", action="store_true", help="with what is mounted below SRC")
    parser.add_argument("source", metavar="SRC", help="a directory or a file")
    parser.add_argument("target", metavar="DST", help="where to mount it; may be SRC")


def _initctl(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pid", nargs="?", default="1", metavar="PID", help="the init [%(default)s]")
    parser.add_argument("--path", default="/dev/initctl", metavar="FILE", help="the FIFO to make [%(default)s]")


def _run_parts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--arg", action="append", default=[], metavar="ARG", help="pass this to each program")
    parser.add_argument("parts", nargs="+", metavar="DIR|FILE", help="a program, or a directory of programs")
