"""What a person sees while it works: phases, progress, warnings.

Everything goes to standard error: journal and console in a unit, the terminal
elsewhere. Nothing here decides anything; the receipt reads the recorder.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bootc_live.base.output import one_line, tell
from bootc_live.base.units import MIB, mib


@dataclass
class Recorder:
    """What has happened so far: seconds per phase and the warnings given."""

    quiet: bool = False
    phases: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Print one progress line, unless quiet."""
        if not self.quiet:
            tell(text)

    def warn(self, text: str) -> None:
        """Print a warning, quiet or not, and keep it for the receipt."""
        self.warnings.append(one_line(text))
        tell(f"warning: {text}")

    @contextmanager
    def phase(self, name: str, text: str) -> Iterator[None]:
        """Announce a phase and record how many seconds it took."""
        self.say(text)
        start = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - start
            self.phases[name] = round(self.phases.get(name, 0.0) + spent, 3)


class Progress:
    """Percent, MiB/s and time left of a transfer whose size is known.

    Fed from several threads; prints at most once in ``interval`` seconds, so
    that a serial console is not the bottleneck.
    """

    def __init__(self, recorder: Recorder, name: str, total: int, interval: float = 2.0) -> None:
        """``total`` is in bytes; 0 means unknown."""
        self._recorder = recorder
        self._name = name
        self._total = total
        self._interval = interval
        self._start = self._last = time.monotonic()
        self.done = 0

    def add(self, count: int) -> None:
        """Count bytes that have arrived."""
        self.done += count
        now = time.monotonic()
        if now - self._last >= self._interval:
            self._last = now
            self._recorder.say(self.line(now))

    def line(self, now: float) -> str:
        """Give the progress line for the given monotonic time."""
        rate = self.done / max(now - self._start, 1e-6)
        if not self._total:
            return f"{self._name}: {self.done // MIB} MiB, {rate / MIB:.1f} MiB/s"
        percent = min(100, self.done * 100 // self._total)
        left = max(0, self._total - self.done) / max(rate, 1.0)
        return f"{self._name}: {percent} % of {mib(self._total)}, {rate / MIB:.1f} MiB/s, {left:.0f} s left"
