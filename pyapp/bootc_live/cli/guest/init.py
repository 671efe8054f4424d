"""``bootc-live guest``: set a container up as a YAML file says, and become the init of the next root."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from dataclasses import replace

from bootc_live.base.errors import BootcLiveError
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_results
from bootc_live.config.guest.model import GuestConfig
from bootc_live.config.guest.parse import read_guest_config
from bootc_live.landing.guest.commands import hook_commands
from bootc_live.landing.guest.guest import Directory, GuestLanding
from bootc_live.landing.guest.hooks import offer_shell, run_hooks
from bootc_live.system.run import environment


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    config = _with_command(read_guest_config(arguments.config), arguments)
    if arguments.check:
        print_results([f"{config.path or 'the default configuration'}: no mistakes"])
        return 0
    variables = {"PATH": environment()["PATH"], **os.environ}
    landing, recorder = GuestLanding(config, variables), Recorder()
    landing.check()
    with ExitStack() as stack:
        try:
            if config.before_setup:
                commands = stack.enter_context(hook_commands())
                inside = {**variables, "PATH": f"{commands}:{variables['PATH']}"}
                run_hooks(config.before_setup, inside)
            if config.root.source is None:
                _land_directory(config, landing, recorder)
            else:
                # A late import: only an image needs all that.
                from bootc_live.cli.guest.image import land_image

                land_image(config.root.source, landing, recorder)
        except BootcLiveError as error:
            if config.rescue:
                offer_shell(error, variables)
            raise
    return 0


def _with_command(config: GuestConfig, arguments: argparse.Namespace) -> GuestConfig:
    """Add the words after ``--`` to the command, or replace it by them."""
    kept = () if arguments.override_exec else config.command
    return replace(config, command=(*kept, *arguments.command))


def _land_directory(config: GuestConfig, landing: GuestLanding, recorder: Recorder) -> None:
    """Land in a directory of the container, as ``pipeline.land`` does in what it has made."""
    made = Directory(config.root.path)
    try:
        for warning in landing.examine(made):
            recorder.warn(warning)
        landing.prepare(made, {})
        landing.commit()
    finally:
        landing.undo()
