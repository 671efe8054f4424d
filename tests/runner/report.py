"""What a run tells at its end: results, minutes beside their budgets, and the dearest groups."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.runner.schedule import Job
from tests.runner.stages import REPO

BUDGETS: Final = REPO / "tests/budgets.toml"
MEASURED: Final = REPO / "build/costs.json"
SLOWEST: Final = 20
_KINDS: Final = ("failed", "passed", "skipped", "deselected", "xfailed", "error")
_RAN: Final = ("passed", "failed", "xfailed")


@dataclass
class Results:
    """What the processes of one stage counted, and the seconds of each group of tests."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def ran(self) -> int:
        """How many tests ran."""
        return sum(self.counts[kind] for kind in _RAN)

    @property
    def broken(self) -> int:
        """How many tests failed or could not be run."""
        return self.counts["failed"] + self.counts["error"]


def gather(directory: Path, job: Job, *, may_be_empty: bool) -> Results:
    """Return the results that a stage's processes left in `directory`.

    What broke outside of tests counts as one error, and so does a stage without any test unless that `may_be_empty`.
    """
    found = Results()
    told = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
    for one in told:
        found.counts.update({kind: count for kind, count in one["counts"].items() if kind != "deselected"})
        found.seconds.update(one["seconds"])
    # Each process leaves the same tests out.
    found.counts["deselected"] = max((one["counts"]["deselected"] for one in told), default=0)
    if not found.broken and (job.failed or not (found.ran or may_be_empty)):
        found.counts["error"] += 1
    return found


def verdict(job: Job, results: Results) -> str:
    """Return what a stage came to, in a word or a few."""
    if job.skipped:
        return "FAILED (what it needs could not be made)"
    if not results.ran and not results.broken:
        return "had nothing to run"
    killed = [-status for status in job.statuses if status < 0]
    if killed:
        return f"FAILED (signal {killed[0]} ended a process)"
    if results.broken and not results.ran:
        return "FAILED (no test ran)"
    return "FAILED" if results.broken else "passed"


def summary(counts: Counter[str], seconds: float) -> str:
    """Return one line like pytest's last."""
    words = [
        f"{counts[kind]} {kind}{'s' if kind == 'error' and counts[kind] > 1 else ''}" for kind in _KINDS if counts[kind]
    ]
    if not any(counts[kind] for kind in _RAN):
        words.insert(0, "no tests ran")
    return f"====== {', '.join(words)} in {seconds:.2f}s ======"


def minutes(jobs: Iterable[Job], total: float) -> list[str]:
    """Return a table of minutes beside their budgets: from the first process of a job to the end of its last one."""
    budgets = tomllib.loads(BUDGETS.read_text())["minutes"]
    rows = [
        _row(job.name, job.ended - job.began, budgets.get(job.name), f"{job.cpu / 60:6.1f} CPU")
        for job in jobs
        if job.started
    ]
    return ["minutes (budget), and minutes of CPU:", *rows, _row("all", total, budgets.get("all"), "")]


def _row(name: str, seconds: float, budget: float | None, more: str) -> str:
    beside = "" if budget is None else f"({budget:4.1f}){' OVER' if seconds > 60 * budget else ''}"
    return f"  {name:16}{seconds / 60:6.1f} {beside:12} {more}".rstrip()


def slowest(seconds: dict[str, float]) -> list[str]:
    """Return the groups of tests that took longest."""
    order = sorted(seconds, key=seconds.__getitem__, reverse=True)[:SLOWEST]
    return ["slowest groups of tests:", *(f"  {seconds[name]:7.1f} s  {name}" for name in order)]


def keep_costs(seconds: dict[str, float]) -> None:
    """Write what groups took beside what they took in earlier runs; tests/README.md says what that is for."""
    known = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    known.update({name: round(value, 1) for name, value in seconds.items()})
    MEASURED.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
