"""Phases, progress and warnings, printed to standard error and recorded for the receipt."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bootc_live.base.output import one_line, print_message
from bootc_live.base.units import MIB, mib


@dataclass
class Recorder:
    """Records the seconds of each phase and the warnings."""

    quiet: bool = False
    phases: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Print a progress line unless quiet."""
        if not self.quiet:
            print_message(text)

    def warn(self, text: str) -> None:
        """Print a warning, even if quiet, and record it."""
        self.warnings.append(one_line(text))
        print_message(f"warning: {text}")

    @contextmanager
    def phase(self, name: str, text: str) -> Iterator[None]:
        """Print the start of a phase and record its duration."""
        self.say(text)
        start = time.monotonic()
        try:
            yield
        finally:
            spent = time.monotonic() - start
            self.phases[name] = round(self.phases.get(name, 0.0) + spent, 3)


class Progress:
    """Prints percentage, rate and remaining time of a transfer.

    Prints at most once in ``interval`` seconds, because a serial console is slow.
    """

    def __init__(self, recorder: Recorder, name: str, total: int, interval: float = 2.0) -> None:
        """Begin a transfer of ``total`` bytes; 0 means unknown."""
        self._recorder = recorder
        self._name = name
        self._total = total
        self._interval = interval
        self._start = self._last = time.monotonic()
        self.done = 0

    def add(self, count: int) -> None:
        """Count received bytes."""
        self.done += count
        now = time.monotonic()
        if now - self._last >= self._interval:
            self._last = now
            self._recorder.say(self.line(now))

    def line(self, now: float) -> str:
        """Return the progress line at a monotonic time."""
        rate = self.done / max(now - self._start, 1e-6)
        if not self._total:
            return f"{self._name}: {self.done // MIB} MiB, {rate / MIB:.1f} MiB/s"
        percent = min(100, self.done * 100 // self._total)
        left = max(0, self._total - self.done) / max(rate, 1.0)
        return f"{self._name}: {percent} % of {mib(self._total)}, {rate / MIB:.1f} MiB/s, {left:.0f} s left"
