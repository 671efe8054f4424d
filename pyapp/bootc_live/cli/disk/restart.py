"""Start what boots next, when a verb has done its work: by the firmware, by this kernel, or in this kernel."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from bootc_live.base.errors import BootcLiveError, ConfigError, LandingError
from bootc_live.base.log import Recorder
from bootc_live.disk import mount_next_root
from bootc_live.formats.boot_entry import Entry
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.disk.running.soft_reboot import check_kernel, check_possible, request
from bootc_live.landing.pivot.by_kexec import check_able, stop_for_next_kernel
from bootc_live.system.cleanup.guard import commit
from bootc_live.system.kexec import keep_loaded, loaded_kernel
from bootc_live.system.run import run


class Way(StrEnum):
    """How to restart, as options say it."""

    APPLY = "--apply"
    KEXEC = "--kexec"
    SOFT_REBOOT = "--soft-reboot"


@dataclass
class Restart:
    """Restarts with the end of ``restarting``, if that was asked for and ``prepare`` was called."""

    way: Way | None
    recorder: Recorder
    stack: ExitStack = field(default_factory=ExitStack)
    prepared: int | None = None
    refused: BootcLiveError | None = None

    def prepare(self, machine: Machine, directory: str) -> None:
        """Restart at the end, unless what boots next runs already; ``directory`` is for temporary files.

        What prevents that is raised at the end: what boots next stays as it is. A start by kexec is counted here,
        because no boot loader sees it.
        """
        default = machine.loader.default(machine.boot)
        if self.way is None or default is None or default.name.deployment == machine.booted:
            return
        try:
            if self.way is Way.KEXEC:
                self._load(machine, default)
                # While the disk is in use, so that a system that hangs later has used up a try.
                machine.loader.count(machine.boot, default.name.deployment)
            elif self.way is Way.SOFT_REBOOT:
                check_kernel(machine, default)
                self._warn_of_arguments(machine, default)
                mount_next_root(machine, default, directory, self.recorder, dry_run=True)
        except BootcLiveError as error:
            self.refused = error
        else:
            self.prepared = default.name.deployment

    def _load(self, machine: Machine, entry: Entry) -> None:
        if not entry.initrd:
            raise LandingError("this kernel cannot start a unified kernel image", hint="use --apply")
        kernel, initrd = (f"{machine.boot}{path}" for path in (entry.kernel, entry.initrd))
        self.stack.enter_context(loaded_kernel(kernel, initrd, entry.cmdline, lambda: None))

    def _warn_of_arguments(self, machine: Machine, entry: Entry) -> None:
        if machine.disk.read(entry.name.deployment).arguments != machine.current().arguments:
            self.recorder.warn("the new image has other kernel arguments: they count when the kernel is started again")


@contextmanager
def restarting(arguments: argparse.Namespace, recorder: Recorder) -> Iterator[Restart]:
    """Yield what restarts after the block, when its disk is not in use any more; raise BootcLiveError."""
    chosen = ((Way.APPLY, arguments.apply), (Way.KEXEC, arguments.kexec), (Way.SOFT_REBOOT, arguments.soft_reboot))
    restart = Restart(next((way for way, asked in chosen if asked), None), recorder)
    if restart.way is not None and arguments.disk is not None:
        raise ConfigError("another system than the running one cannot be restarted", hint=f"leave out {restart.way}")
    if restart.way is Way.KEXEC:
        check_able("--kexec", "use --apply")
    elif restart.way is Way.SOFT_REBOOT:
        check_possible()
    with restart.stack:
        yield restart
        if restart.refused is not None:
            raise restart.refused
        if restart.prepared is None:
            return
        match restart.way:
            case Way.KEXEC:
                recorder.say("this system stops, and its kernel starts the next one")
                commit(stop_for_next_kernel)
                keep_loaded()
            case Way.SOFT_REBOOT:
                recorder.say(f"this system stops, and goes on in deployment {restart.prepared}")
                commit(request, restart.prepared)
            case _:
                recorder.say("rebooting")
                run(["systemctl", "reboot"], hint="reboot by hand")
