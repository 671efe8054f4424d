"""What benchmarks share: figures are ratios against a peer measured in the same run, best of several rounds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

ROUNDS: Final = 5


@dataclass
class Figures:
    """Lines for the end of the run, and the same by name for programs."""

    lines: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def add(self, text: str) -> None:
        """Keeps a line, and shows it at once."""
        self.lines.append(text)
        print(text, flush=True)

    def keep(self, name: str, value: object) -> None:
        """Keeps a value for the file; it is JSON-ready."""
        self.values[name] = value

    def table(self, name: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Keeps a table under a name, and shows it with its columns aligned."""
        texts = [list(head), *([_text(cell) for cell in row] for row in rows)]
        widths = [max(len(line[number]) for line in texts) for number in range(len(head))]
        self.add("\n".join([f"{name}:", *(f"  {_aligned(line, widths)}" for line in texts)]))
        self.keep(name, [dict(zip(head, row, strict=True)) for row in rows])

    def bar(self, name: str, value: float, limit: float, *, least: bool, why: str = "") -> None:
        """Keeps a figure beside its bar, which `value` must reach (`least`) or stay below.

        A bar that is missed fails the test, or is an expected failure where `why` says what stands in the way.
        """
        sign = "≥" if least else "≤"
        held = value >= limit if least else value <= limit
        self.add(f"{name}: {value:.2f} (bar: {sign} {limit:g}){'' if held else ' MISSED'}")
        self.keep(name, {"value": round(value, 3), "bar": f"{sign} {limit:g}", "held": held})
        if not held and why:
            pytest.xfail(why)
        assert held, f"{name}: {value:.2f}, bar {sign} {limit:g}"

    def write(self, path: Path) -> None:
        """Writes the values to a file, where values of earlier runs under other names stay."""
        if self.values:
            known = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps({**known, **self.values}, indent=2, ensure_ascii=False) + "\n")


def _text(cell: object) -> str:
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    first = line[0].ljust(widths[0])
    return "  ".join([first, *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))])


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def best_of(*works: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """The shortest time of each call, in turns, so that a busy moment of the machine does not hit one of them alone."""
    times = [[seconds(work) for work in works] for _ in range(rounds)]
    return [min(column) for column in zip(*times, strict=True)]
