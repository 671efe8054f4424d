"""Start what boots next, when a verb has done its work: by the firmware, or by this kernel at once."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bootc_live.base.errors import ConfigError, LandingError
from bootc_live.base.log import Recorder
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.pivot.by_kexec import check_able, stop_for_next_kernel
from bootc_live.system.cleanup.guard import commit
from bootc_live.system.kexec import keep_loaded, loaded_kernel
from bootc_live.system.run import run


@dataclass
class Restart:
    """Restarts with the end of ``restarting``, if that was asked for and ``prepare`` was called."""

    apply: bool
    kexec: bool
    stack: ExitStack = field(default_factory=ExitStack)
    prepared: bool = False

    def prepare(self, machine: Machine) -> None:
        """Restart at the end, unless what boots next runs already; raise LandingError if its kernel cannot be loaded.

        The boot loader does not count a boot by kexec, but it counts those after it.
        """
        default = machine.loader.default(machine.boot)
        if not (self.apply or self.kexec) or default is None or default.name.deployment == machine.booted:
            return
        if self.kexec:
            if not default.initrd:
                raise LandingError("this kernel cannot start a unified kernel image", hint="use --apply")
            kernel, initrd = (f"{machine.boot}{path}" for path in (default.kernel, default.initrd))
            self.stack.enter_context(loaded_kernel(kernel, initrd, default.cmdline, lambda: None))
        self.prepared = True


@contextmanager
def restarting(arguments: argparse.Namespace, recorder: Recorder) -> Iterator[Restart]:
    """Yield what restarts after the block, when its disk is not in use any more; raise BootcLiveError."""
    restart = Restart(arguments.apply, arguments.kexec)
    if (restart.apply or restart.kexec) and arguments.disk is not None:
        raise ConfigError(
            "another system than the running one cannot be restarted", hint="leave out --apply or --kexec"
        )
    if restart.kexec:
        check_able("--kexec", "use --apply")
    with restart.stack:
        yield restart
        if restart.prepared and restart.kexec:
            recorder.say("this system stops, and its kernel starts the next one")
            commit(stop_for_next_kernel)
            keep_loaded()
        elif restart.prepared:
            recorder.say("rebooting")
            run(["systemctl", "reboot"], hint="reboot by hand")
