"""A QEMU guest as a context manager."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from vmkit import emulator
from vmkit.accel import accelerator
from vmkit.network import Network, UserNetwork
from vmkit.paths import OUT
from vmkit.qmp import Qmp
from vmkit.start import Start

_PORT_NAME: Final = "org.bootc-live.ready"
_FATE: Final = ("setpriv", "--pdeathsig=KILL", "--")
"""QEMU does not outlive this process, however that ends."""
_POLL: Final = 0.1
_TAIL: Final = 30
"""How many lines of the console an error quotes."""
_SAID: Final = 8
"""How many earlier lines by bootc-live it adds: the shutdown after a failure scrolls them away."""
_ANSI: Final = re.compile(r"\x1b\[[0-9;:?]*[A-Za-z]")


class GuestError(Exception):
    """The guest did not do what was waited for; the text ends with its last console lines."""


@dataclass(frozen=True)
class Ready:
    """What the guest reported from its final root."""

    target: str
    """The systemd target it reached."""
    failed: int
    """How many units failed."""
    receipt: dict[str, Any] | None
    """The boot receipt, None if the guest has none."""
    seconds: float
    """From the start of QEMU to the report."""
    line: str
    """The report's first line as it came."""


class Guest:
    """One boot; leaving the context kills QEMU and removes all temporary files.

    The guest's ttyS0 is logged to ``console_log`` (default: a temporary file). ``extra``
    are more QEMU options. ``network`` is one of QEMU's own by default.
    ``echo`` gets console bytes as they come, while one of the
    ``wait_`` methods runs.
    """

    def __init__(
        self,
        start: Start,
        *,
        network: Network | None = None,
        memory: int = 2048,
        smp: int = 2,
        extra: Sequence[str] = (),
        console_log: Path | None = None,
        echo: Callable[[bytes], object] | None = None,
    ) -> None:
        """Describe the guest; ``memory`` is in MiB. Entering the context starts it."""
        self._from = start
        self._network = network or UserNetwork()
        self._memory = memory
        self._smp = smp
        self._extra = extra
        self._console_log = console_log
        self._echo = echo
        self._echoed = 0
        self._stack = ExitStack()
        self.accelerator: tuple[str, ...] = ()
        self.ssh_port = 0
        """Port of this machine's loopback that leads to the guest's port 22; 0 where the network has none."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        for file in (OUT / "vmlinuz", *self._from.needs()):
            if not file.exists():
                raise GuestError(f"{file} is missing; vm/build makes what is in vm/out")
        if not emulator.installed():
            raise GuestError("QEMU is missing; vm/build makes the root it runs from")
        work = Path(tempfile.mkdtemp(prefix="vm-guest-"))
        stack.callback(shutil.rmtree, work)
        self._console = self._console_log or work / "console"
        self._console.write_bytes(b"")
        self._ready = work / "ready"
        self._errors = work / "errors"
        self.accelerator = accelerator(OUT / "vmlinuz")
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
        argv = [*_FATE, *emulator.qemu(*self.accelerator), "-m", str(self._memory), "-smp", str(self._smp)]
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

    def console(self) -> str:
        """Return everything the guest has written to ttyS0 so far."""
        return self._console.read_bytes().decode(errors="replace")

    def wait_ready(self, timeout: float) -> Ready:
        """Wait for the guest's report from its final root, at most ``timeout`` seconds.

        Raises GuestError if it powers off, panics or stays silent instead.
        """
        deadline = time.monotonic() + timeout
        while True:
            ended = self._process.poll() is not None
            self._show()
            ready = self._report()
            if ready:
                return ready
            if ended:
                raise self._error(f"the guest {self._end()} before it was ready")
            if time.monotonic() > deadline:
                raise self._error(f"the guest was not ready within {timeout:.0f} seconds")
            time.sleep(_POLL)

    def wait_exit(self, timeout: float) -> None:
        """Wait until the guest has powered off or restarted; GuestError after ``timeout`` s."""
        deadline = time.monotonic() + timeout
        while self._process.poll() is None:
            self._show()
            if time.monotonic() > deadline:
                raise self._error(f"the guest still ran after {timeout:.0f} seconds")
            time.sleep(_POLL)
        self._show()

    def wait_console(self, text: str, timeout: float) -> None:
        """Wait until ``text`` stands on the console; raises GuestError like ``wait_ready``."""
        deadline = time.monotonic() + timeout
        while True:
            ended = self._process.poll() is not None
            self._show()
            if text in self.console():
                return
            if ended:
                raise self._error(f"the guest {self._end()} before it printed '{text}'")
            if time.monotonic() > deadline:
                raise self._error(f"the guest did not print '{text}' within {timeout:.0f} seconds")
            time.sleep(_POLL)

    def powerdown(self) -> None:
        """Press the guest's power button; it takes its own time (see ``wait_exit``)."""
        self._qmp.execute("system_powerdown")

    def _report(self) -> Ready | None:
        try:
            text = self._ready.read_text(errors="replace")
        except FileNotFoundError:
            return None
        line, _, rest = text.partition("\n")
        body, end, _ = rest.partition("BOOTC-LIVE-END\n")
        words = line.split()
        if not end or len(words) != 3 or words[0] != "BOOTC-LIVE-READY":
            return None
        receipt = json.loads(body) if body.strip() else None
        failed = int(words[2].removeprefix("failed="))
        return Ready(words[1], failed, receipt, time.monotonic() - self._started, line)

    def _show(self) -> None:
        if self._echo is None:
            return
        with self._console.open("rb") as file:
            file.seek(self._echoed)
            new = file.read()
        if new:
            self._echoed += len(new)
            self._echo(new)

    def _end(self) -> str:
        status = self._process.returncode
        if status:
            return f"ended (QEMU: exit status {status}, {self._errors.read_text().strip()})"
        return "panicked" if "Kernel panic" in self.console() else "powered off or restarted"

    def _error(self, message: str) -> GuestError:
        lines = [plain for line in self.console().splitlines() if (plain := _ANSI.sub("", line).strip())]
        said = [line for line in lines[:-_TAIL] if "bootc-live:" in line][-_SAID:]
        tail = "\n".join([*said, *lines[-_TAIL:]])
        return GuestError(f"{message}; the last lines of its console:\n{tail}")


def to_stdout(chunk: bytes) -> None:
    """Pass console bytes on to standard output, for ``Guest(echo=…)``."""
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
