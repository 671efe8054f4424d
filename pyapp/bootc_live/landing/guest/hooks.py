"""Run the commands of a guest's file, and the shell that it may ask for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

from bootc_live.base.errors import BootcLiveError, LandingError
from bootc_live.base.output import print_details, print_message
from bootc_live.config.guest.model import Command
from bootc_live.landing.guest.step import step
from bootc_live.landing.guest.tools.run_parts import tolerant
from bootc_live.system.cleanup.processes import in_foreground
from bootc_live.system.run import run_attached

_SHELL = "/bin/sh"


def run_hooks(commands: Sequence[Command], environment: Mapping[str, str]) -> None:
    """Run commands, one after the other, and all programs of directories; raise LandingError for the first that fails.

    Scripts that cannot be executed are given to their interpreters.
    """
    for command in commands:
        with step(command.key, f"start {command.argv[0]!r}", "check that the root has it, and what runs it"):
            for path, argv in tolerant(command.argv):
                _run(command, path, run_attached(argv, environment, command.input or ""))


def _run(command: Command, path: str, status: int) -> None:
    if status:
        how = f"was killed by signal {-status}" if status < 0 else f"exited with {status}"
        raise LandingError(f"{command.key}: {path!r} {how}", hint="see what it printed above")


def offer_shell(error: BootcLiveError, environment: Mapping[str, str]) -> None:
    """Show an error, and run a shell here, where it happened."""
    print_message(f"error: {error.message}")
    print_details([f"what to do: {error.hint}", "rescue: this is a shell; when it ends, the container does"])
    try:
        with in_foreground() if os.isatty(0) else nullcontext():
            run_attached([_SHELL, "-i"], environment, None)
    except OSError as failure:
        print_message(f"rescue: there is no shell {_SHELL}: {failure.strerror}")


def reap() -> None:
    """Take note of all processes that have ended and whose parents have, too."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return
