"""What benchmarks share: figures are ratios against a peer measured in the same run, best of several rounds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

ROUNDS: Final = 5


@dataclass
class Figures:
    """Lines for the end of the run."""

    lines: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Keeps a line, and shows it at once."""
        self.lines.append(text)
        print(text, flush=True)


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def best_of(*works: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """The shortest time of each call, in turns, so that a busy moment of the machine does not hit one of them alone."""
    times = [[seconds(work) for work in works] for _ in range(rounds)]
    return [min(column) for column in zip(*times, strict=True)]
