"""What guests of all kinds have in common: a console, a report that they are ready, and an end."""

import json
import re
import shutil
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

FATE: Final = ("setpriv", "--pdeathsig=KILL", "--")
"""A command that begins so does not outlive this process, however that ends."""
_POLL: Final = 0.1
# Times the limit for silence that a wait may take in all.
_LONGEST: Final = 6
_TAIL: Final = 60
"""How many lines of the console an error quotes."""
_SAID: Final = 8
"""How many earlier lines by bootc-live it adds: the shutdown after a failure scrolls them away."""
_ANSI: Final = re.compile(r"\x1b\[[0-9;:?!]*[A-Za-z]")


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
    """From the start of the guest to the report."""
    line: str
    """The report's first line as it came."""


class BaseGuest(ABC):
    """One boot; leaving the context ends the guest and removes all temporary files.

    The guest's console is logged to ``console_log`` (default: a temporary file). ``echo`` gets console bytes as they
    come, while one of the ``wait_`` methods runs.
    """

    engine: str
    """What the guest runs on, in a word."""

    def __init__(self, console_log: Path | None, echo: Callable[[bytes], object] | None) -> None:
        """Describe the guest. Entering the context starts it."""
        self._console_log = console_log
        self._echo = echo
        self._echoed = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            work = Path(tempfile.mkdtemp(prefix="vm-guest-"))
            stack.callback(shutil.rmtree, work)
            self._console = self._console_log or work / "console"
            self._console.write_bytes(b"")
            self._ready = work / "ready"
            self._errors = work / "errors"
            self._started = time.monotonic()
            self._start(stack, work)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A GuestError has the lines already.
        if isinstance(error, Exception) and not isinstance(error, GuestError):
            error.add_note(str(self._error("what the guest was doing")))
        self._stack.close()

    @abstractmethod
    def _start(self, stack: ExitStack, work: Path) -> None:
        """Start the guest; what ends it goes to ``stack``, and files of its own to the directory ``work``."""

    @abstractmethod
    def _ended(self) -> bool:
        """Tell whether the guest has ended."""

    @abstractmethod
    def _end(self) -> str:
        """Tell how the guest ended, as the predicate of a sentence."""

    @abstractmethod
    def powerdown(self) -> None:
        """Press the guest's power button; it takes its own time (see ``wait_exit``)."""

    @abstractmethod
    def ssh_options(self) -> list[str]:
        """Return the options by which ssh(1) reaches the guest, whatever host name it is given."""

    def at_end(self, call: Callable[[], object]) -> None:
        """Let ``call`` be called when the context is left, while the guest still runs."""
        self._stack.callback(call)

    def console(self) -> str:
        """Return everything the guest has written to its console so far."""
        return self._console.read_bytes().decode(errors="replace")

    def lines(self) -> list[str]:
        """Return the console's lines as a person would read them: without escape sequences and empty ones."""
        return [plain for line in self.console().splitlines() if (plain := _ANSI.sub("", line).strip())]

    def wait_ready(self, timeout: float) -> Ready:
        """Wait for the guest's report from its final root.

        Raises GuestError if it powers off or panics instead, or prints nothing for ``timeout`` seconds.
        """
        ready: list[Ready] = []

        def reported() -> bool:
            ready.extend(filter(None, [self._report()]))
            return bool(ready)

        self._wait(reported, "was ready", "was not ready", timeout)
        return ready[0]

    def wait_exit(self, timeout: float) -> None:
        """Wait until the guest has powered off or restarted; GuestError if it prints nothing for ``timeout`` s."""
        for ended in self._watched("did not end", timeout):
            if ended:
                return

    def wait_console(self, text: str, timeout: float) -> None:
        """Wait until ``text`` stands on the console; raises GuestError like ``wait_ready``."""
        self._wait(lambda: text in self.console(), f"printed '{text}'", f"did not print '{text}'", timeout)

    def _wait(self, done: Callable[[], bool], did: str, did_not: str, timeout: float) -> None:
        for ended in self._watched(did_not, timeout):
            if done():
                return
            if ended:
                raise self._error(f"the guest {self._end()} before it {did}")

    def _watched(self, did_not: str, timeout: float) -> Iterator[bool]:
        """Yield now and then whether the guest has ended; raise GuestError if it is silent or never done."""
        began = printed = time.monotonic()
        size = 0
        while time.monotonic() < min(printed + timeout, began + _LONGEST * timeout):
            ended = self._ended()
            self._show()
            if self._console.exists() and self._console.stat().st_size > size:
                # A busy machine makes a boot slow, but not silent.
                size, printed = self._console.stat().st_size, time.monotonic()
            yield ended
            time.sleep(_POLL)
        raise self._error(f"the guest {did_not}, and printed nothing for {timeout:.0f} seconds")

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

    def _error(self, message: str) -> GuestError:
        lines = self.lines()
        said = [line for line in lines[:-_TAIL] if "bootc-live:" in line][-_SAID:]
        tail = "\n".join([*said, *lines[-_TAIL:]])
        return GuestError(f"{message}; the last lines of its console:\n{tail}")


def require(files: list[Path]) -> None:
    """Raise GuestError unless all ``files`` exist."""
    for file in files:
        if not file.exists():
            raise GuestError(f"{file} is missing; vm/build makes what is in vm/out")


def to_stdout(chunk: bytes) -> None:
    """Pass console bytes on to standard output, for ``Guest(echo=…)``."""
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
