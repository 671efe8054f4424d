"""Make every mutation of the table in a copy of the repository, and see whether the tests find it.

    build/venv/bin/python -m tests.mutants.run [--stage unit,integration] [--jobs N] [--revision REV] [NAME...]

NAME is a part of a mutation's name.

The test that is expected to find a mutation runs first. Where it does not, the whole unit stage does, then the
integration tests whose names are close to that of the file, then all of them. In the end the tests that failed run
once more, without any mutation: only what passes there has found something. Rows that only a guest shows are named,
and run with `--stage vm`. Exits 0 if every mutation was found that was looked for.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.copy import Copy, Outcome
from tests.mutants.mutation import REPO, Mutation
from tests.mutants.table import MUTATIONS
from tests.runner.stages import HOST_PACKAGES, everything_needed
from tests.runner.stages import STAGES as TEST_STAGES

STAGES = ("unit", "lint", "integration", "roots", "vm")
_USUAL = "unit,lint,integration,roots"
_WHOLE_STAGE = 3600.0


@dataclass(frozen=True)
class Result:
    """What became of a mutation: the stage and the tests that found it, if any did."""

    mutation: Mutation
    seconds: float
    stage: str = ""
    tests: tuple[str, ...] = ()
    by_time: bool = False

    @property
    def found(self) -> bool:
        """Whether something failed."""
        return bool(self.tests)

    def __str__(self) -> str:
        """Return a line of the summary."""
        tests = f"{self.tests[0]}{', by time' if self.by_time else ''}" if self.tests else "NOT CAUGHT"
        return f"{self.mutation.name:44} {self.seconds:6.1f} s  {tests}"


class Hunt:
    """Looks for mutations with copies of the repository, each used by one thread at a time."""

    def __init__(self, copies: Sequence[Copy], stages: frozenset[str], timeout: float, *, search: bool) -> None:
        """Take the copies, the stages that may be run, and the seconds that an expected test may take.

        Where that one finds nothing, `search` goes on with all others.
        """
        self._copies: SimpleQueue[Copy] = SimpleQueue()
        for copy in copies:
            self._copies.put(copy)
        self._stages, self._timeout, self._search = stages, timeout, search
        # Guests fill the processors and the memory by themselves.
        self._guests = threading.Lock()

    def look(self, mutation: Mutation) -> Result:
        """Make a mutation and run tests until one fails."""
        copy, began = self._copies.get(), time.monotonic()
        try:
            with copy.mutated(mutation):
                for stage, tests, timeout in self._searches(mutation):
                    outcome = self._run(copy, stage, tests, timeout)
                    if not outcome.passed:
                        failed = outcome.failed or tuple(tests)
                        return Result(mutation, time.monotonic() - began, stage, failed, outcome.timed_out)
        finally:
            self._copies.put(copy)
        return Result(mutation, time.monotonic() - began)

    def control(self, stage: str, tests: Sequence[str]) -> tuple[str, ...]:
        """Run tests without a mutation; returns those that fail."""
        copy = self._copies.get()
        try:
            copy.build_zipapp()
            outcome = self._run(copy, stage, tests, _WHOLE_STAGE, first=False)
        finally:
            self._copies.put(copy)
        if not outcome.passed:
            print(outcome.said)
        return () if outcome.passed else outcome.failed or tuple(tests)

    def _searches(self, mutation: Mutation) -> Iterator[tuple[str, list[str], float]]:
        if mutation.caught_by is not None:
            yield mutation.stage, [mutation.caught_by], self._timeout
        if mutation.stage == "vm" or not self._search:
            return
        if mutation.stage == "roots" and "roots" in self._stages:
            yield "roots", ["tests/roots"], _WHOLE_STAGE
        if "unit" in self._stages:
            yield "unit", ["tests/unit"], _WHOLE_STAGE
        if "integration" in self._stages:
            if related := list(_related(mutation.file)):
                yield "integration", related, _WHOLE_STAGE
            yield "integration", ["tests/integration"], _WHOLE_STAGE

    def _run(self, copy: Copy, stage: str, tests: Sequence[str], timeout: float, *, first: bool = True) -> Outcome:
        if stage != "vm":
            return self._run_or_file(copy, stage, tests, timeout, first=first)
        with self._guests:
            copy.build_artefacts()
            return self._run_or_file(copy, stage, tests, timeout, first=first)

    def _run_or_file(self, copy: Copy, stage: str, tests: Sequence[str], timeout: float, *, first: bool) -> Outcome:
        """Run tests; where one of them has another name by now, the whole of its file."""
        try:
            return copy.test(stage, tests, timeout, first=first)
        except LookupError:
            files = [test.partition("::")[0] for test in tests]
            there = [file for file in dict.fromkeys(files) if (copy.top / file).exists()]
            if not there or there == list(tests):
                return Outcome(passed=True)
            return copy.test(stage, there, timeout, first=first)


def _prepare(stages: frozenset[str]) -> None:
    """Make what the tests of the stages need; guests boot what is made of each mutation."""
    needed = [list(made.argv) for made in everything_needed([TEST_STAGES[name] for name in stages - {"vm"}])]
    if stages - {"lint", "unit"}:
        needed.insert(0, ["vm/host-packages", *HOST_PACKAGES])
    # It leaves the libraries where the copies find them.
    for argv in ([sys.executable, "pyapp/build_zipapp.py"], *needed):
        subprocess.run(argv, cwd=REPO, check=True, stdin=subprocess.DEVNULL)


def _related(file: str) -> Iterator[str]:
    """Give the integration tests that share a word with the name of a file of the product."""
    words = set(re.split(r"[/_.-]", file.rpartition("bootc_live/")[2].removesuffix(".py")))
    for path in sorted((REPO / "tests" / "integration").rglob("test_*.py")):
        if words & set(path.stem.split("_")[1:]):
            yield path.relative_to(REPO).as_posix()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/run mutants", description="See whether the tests find mistakes.")
    parser.add_argument("name", nargs="*", help="parts of the names of mutations [all of the stages]")
    parser.add_argument("--stage", default=_USUAL, help=f"stages that may be run [{_USUAL}]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutations at once [%(default)s]")
    parser.add_argument("--revision", help="take the tests of this commit")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for the expected test [%(default)g]")
    parser.add_argument("--expected", action="store_true", help="run the expected tests alone")
    parser.add_argument("--list", action="store_true", help="show the table and do nothing")
    found = parser.parse_args()
    unknown = [stage for stage in found.stage.split(",") if stage not in STAGES]
    unknown += [name for name in found.name if not any(name in mutation.name for mutation in MUTATIONS)]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    return found


def _is_asked(mutation: Mutation, names: Sequence[str]) -> bool:
    return not names or any(name in mutation.name for name in names)


def main() -> int:
    """Run the hunt; returns the exit status."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stages = frozenset(arguments.stage.split(","))
    asked = [mutation for mutation in MUTATIONS if _is_asked(mutation, arguments.name)]
    if arguments.list:
        print("\n".join(f"{one.name:44} {one.stage:12} {one.caught_by or 'hole'}" for one in asked))
        return 0
    holes = [one for one in asked if one.caught_by is None and not arguments.name]
    wanted = [one for one in asked if one.stage in stages and one not in holes]
    try:
        return _hunt(arguments, wanted, asked, holes)
    except KeyboardInterrupt:
        return 130


def _hunt(
    arguments: argparse.Namespace, wanted: Sequence[Mutation], asked: Sequence[Mutation], holes: Sequence[Mutation]
) -> int:
    stages = frozenset(arguments.stage.split(","))
    _prepare(frozenset(mutation.stage for mutation in wanted) | (frozenset() if arguments.expected else stages))
    # In the repository, which the roots see, too.
    with tempfile.TemporaryDirectory(prefix="mutants.", dir=REPO / "build", ignore_cleanup_errors=True) as name:
        tops = [Path(name, str(number)) for number in range(min(arguments.jobs, len(wanted)))]
        copies = [Copy(top, arguments.revision) for top in tops]
        hunt = Hunt(copies, stages, arguments.timeout, search=not arguments.expected)
        try:
            return _summary(hunt, list(_results(hunt, wanted, len(copies))), asked, holes)
        finally:
            for copy in copies:
                copy.end()


def _results(hunt: Hunt, wanted: Sequence[Mutation], jobs: int) -> Iterator[Result]:
    """Look for the mutations, the slow ones first, and tell of each."""
    order = sorted(wanted, key=lambda one: STAGES.index(one.stage), reverse=True)
    pool = ThreadPoolExecutor(max_workers=max(1, jobs))
    try:
        for future in as_completed([pool.submit(hunt.look, mutation) for mutation in order]):
            print(future.result(), flush=True)
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _summary(hunt: Hunt, results: Sequence[Result], asked: Sequence[Mutation], holes: Sequence[Mutation]) -> int:
    missed = [result.mutation.name for result in results if not result.found]
    failing: set[str] = set()
    for stage in STAGES:
        tests = sorted({test for result in results if result.stage == stage for test in result.tests})
        if tests:
            failing |= set(hunt.control(stage, tests))
    false = [result.mutation.name for result in results if failing & set(result.tests)]
    looked_for = {result.mutation.name for result in results} | {one.name for one in holes}
    left_out = [f"{one.name} ({one.stage})" for one in asked if one.name not in looked_for]
    print()
    for what, names in (
        ("fail without a mutation, too", sorted(failing)),
        ("found by these alone", false),
        ("holes, found by nothing", [one.name for one in holes]),
        ("left out, of stages that were not asked for", left_out),
        ("NOT CAUGHT", missed),
    ):
        if names:
            print(f"{what}: {', '.join(names)}")
    caught = len(results) - len(set(missed) | set(false))
    print(f"{caught} of {len(results)} mutations were caught")
    return 0 if results and caught == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
