"""A QEMU guest as a context manager."""

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from vmkit import emulator
from vmkit.accel import accelerator
from vmkit.base import FATE, BaseGuest, GuestError, Ready, require, to_stdout
from vmkit.network import Network, UserNetwork
from vmkit.paths import OUT
from vmkit.qmp import Qmp
from vmkit.start import Start

__all__ = ["Guest", "GuestError", "Ready", "to_stdout"]

_PORT_NAME: Final = "org.bootc-live.ready"


class Guest(BaseGuest):
    """One boot in QEMU, whose ttyS0 is the console.

    ``extra`` are more QEMU options. ``network`` is one of QEMU's own by default.
    """

    def __init__(
        self,
        start: Start,
        *,
        network: Network | None = None,
        memory: int = 2048,
        smp: int = 1,
        extra: Sequence[str] = (),
        console_log: Path | None = None,
        echo: Callable[[bytes], object] | None = None,
    ) -> None:
        """Describe the guest; ``memory`` is in MiB. Entering the context starts it."""
        super().__init__(console_log, echo)
        self._from = start
        self._network = network or UserNetwork()
        self._memory = memory
        self._smp = smp
        self._extra = extra
        self.accelerator: tuple[str, ...] = ()
        self.ssh_port = 0
        """Port of this machine's loopback that leads to the guest's port 22; 0 where the network has none."""

    def _start(self, stack: ExitStack, work: Path) -> None:
        require([OUT / "vmlinuz", *self._from.needs()])
        if not emulator.installed():
            raise GuestError("QEMU is missing; vm/build makes the root it runs from")
        self.accelerator = accelerator(OUT / "vmlinuz")
        self.engine = self.accelerator[1].split(",")[0]
        argv = self._argv(work)
        with self._errors.open("wb") as errors:
            self._started = time.monotonic()
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=self._network.descriptors,
            )
        stack.callback(self._kill)
        self._qmp = stack.enter_context(self._connect(work / "qmp"))
        if self._network.unplugged:
            self._qmp.execute("set_link", name=self._network.unplugged, up=False)
        if self._network.forwards:
            self.ssh_port = self._qmp.forwarded_port(22)

    def _argv(self, work: Path) -> list[str]:
        argv = [*FATE, *emulator.qemu(*self.accelerator, resolver=self._network.resolver)]
        argv += ["-m", str(self._memory), "-smp", str(self._smp)]
        argv += ["-nodefaults", "-display", "none", "-no-reboot", "-no-user-config"]
        argv += ["-qmp", f"unix:{work}/qmp,server=on,wait=off"]
        argv += ["-chardev", f"file,id=console,path={self._console}", "-serial", "chardev:console"]
        argv += ["-device", "virtio-serial", "-chardev", f"file,id=ready,path={self._ready}"]
        argv += ["-device", f"virtserialport,chardev=ready,name={_PORT_NAME}"]
        argv += ["-object", "rng-random,id=rng,filename=/dev/urandom"]
        argv += ["-device", "virtio-rng-pci,rng=rng"]
        argv += self._network.options()
        return [*argv, *self._from.options(work), *self._extra]

    def _connect(self, path: Path) -> Qmp:
        while not path.exists():
            if self._process.poll() is not None:
                raise GuestError(f"QEMU did not start: {self._errors.read_text().strip()}")
            time.sleep(0.02)
        return Qmp(path)

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def powerdown(self) -> None:
        """Press the guest's power button; it takes its own time (see ``wait_exit``)."""
        self._qmp.execute("system_powerdown")

    def ssh_options(self) -> list[str]:
        """Return the options by which ssh(1) reaches the guest, whatever host name it is given."""
        return ["-o", "HostName=127.0.0.1", "-o", f"Port={self.ssh_port}"]

    def _ended(self) -> bool:
        return self._process.poll() is not None

    def _end(self) -> str:
        status = self._process.returncode
        if status:
            return f"ended (QEMU: exit status {status}, {self._errors.read_text().strip()})"
        return "panicked" if "Kernel panic" in self.console() else "powered off or restarted"
