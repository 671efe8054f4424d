"""`tests/run`, once there is a Python environment: see that script for how it is called."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.runner import report
from tests.runner.schedule import Job, Schedule
from tests.runner.stages import HOST_PACKAGES, ORDINARY, PROGRAMS, REPO, STAGES, Stage, everything_needed


class UsageError(Exception):
    """The arguments make no sense; the text says why."""


@dataclass(frozen=True)
class Asked:
    """What the caller wants: paths of tests by stage, and arguments for pytest."""

    paths: dict[str, list[str]]
    arguments: list[str]

    @property
    def stages(self) -> list[Stage]:
        """The stages, in the order in which they matter."""
        return [stage for stage in STAGES.values() if stage.name in self.paths]

    @property
    def chosen(self) -> bool:
        """Whether tests are chosen by pytest's own means, so that a stage may have none."""
        return bool(self.arguments) and self.arguments != ["--long"]


def parse(argv: list[str]) -> Asked:
    """Return what `argv` asks for; raises UsageError."""
    end = argv.index("--") if "--" in argv else len(argv)
    words, arguments = argv[:end], argv[end + 1 :]
    if "all" in words:
        arguments = ["--long", *arguments]
        words = [word for word in words if word != "all"] + list(STAGES)
    paths: dict[str, list[str]] = {}
    named = [word for word in words if word in STAGES]
    for word in words:
        if word not in STAGES:
            stage = _stage_of(word)
            if named and stage not in named:
                raise UsageError(f"'{word}' belongs to the stage {stage}, which is not named beside it")
            paths.setdefault(stage, []).append(word)
    for stage in named or ([] if paths else ORDINARY):
        paths.setdefault(stage, [STAGES[stage].directory])
    return Asked(paths, arguments)


def _stage_of(word: str) -> str:
    path = Path(word.partition("::")[0])
    if not path.exists():
        raise UsageError(f"'{word}' is neither a stage nor a path of tests; stages: {' '.join(STAGES)} all mutants")
    parts = path.resolve().relative_to(REPO).parts if path.resolve().is_relative_to(REPO) else ()
    if len(parts) < 2 or parts[0] != "tests" or parts[1] not in STAGES:
        raise UsageError(f"'{word}' is not below the directory of a stage: {' '.join(STAGES)}")
    return parts[1]


def install(stages: list[Stage]) -> None:
    """Install the packages that the stages need; raises CalledProcessError.

    Only root does so, and lint and unit do without.
    """
    missing = sorted({package for program, package in PROGRAMS.items() if not shutil.which(program)})
    if any(stage.needs for stage in stages):
        subprocess.run(["vm/host-packages", *HOST_PACKAGES, *missing], cwd=REPO, check=True)
    elif missing and os.geteuid() == 0 and shutil.which("apt-get"):
        _install_packages(missing)


def _install_packages(names: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "-q", "update"], env=environment, check=True)
    argv = ["apt-get", "-qy", "install", "--no-install-recommends", *names]
    subprocess.run(argv, env=environment, check=True)


def plan(asked: Asked, directory: Path) -> list[Job]:
    """Return a job for each thing that the stages need and for each stage; results of stages go below `directory`."""
    made = everything_needed(asked.stages)
    jobs = {one.name: Job(one.name, list(one.argv), one.needs, room=one.room) for one in made}
    processors = len(os.sched_getaffinity(0))
    few = len([path for paths in asked.paths.values() for path in paths if Path(path.partition("::")[0]).is_file()])
    for stage in asked.stages:
        paths = asked.paths[stage.name]
        share = directory / stage.name
        share.mkdir()
        whole = paths == [stage.directory]
        jobs[stage.name] = Job(
            stage.name,
            stage.argv(sys.executable, [*paths, *asked.arguments]),
            stage.needs,
            workers=(stage.workers or max(2, processors) + stage.waits) if whole else max(1, min(few, processors)),
            alone=stage.alone,
            env={"BOOTC_LIVE_SHARE": str(share)},
        )
    # What is in the way of others comes first: lint needs nothing, the image much.
    order = {"root builder": 0, "lint": 1, "root live": 2, "unit": 3}
    return sorted(jobs.values(), key=lambda job: order.get(job.name, len(order)))


def run(asked: Asked, directory: Path) -> int:
    """Run what was asked for; `directory` is for results. Return the exit status."""
    began = time.monotonic()
    install(asked.stages)
    subprocess.run([sys.executable, "pyapp/build_zipapp.py"], cwd=REPO, check=True)
    jobs = plan(asked, directory)
    if len(jobs) == 1 and jobs[0].workers == 1:
        return _run_here(jobs[0], directory, began)
    found: dict[str, report.Results] = {}

    def begun(job: Job) -> None:
        print(f"== {job.name}: begins ==", flush=True)

    def ended(job: Job) -> None:
        _show(job, found, asked, directory)

    try:
        Schedule(jobs, len(os.sched_getaffinity(0)) + 1, directory).run(ended, begun)
    except KeyboardInterrupt:
        show_unfinished(jobs)
        raise
    return _sum_up(jobs, found, time.monotonic() - began)


def _run_here(job: Job, directory: Path, began: float) -> int:
    """Run the only process there is, with its output as it comes."""
    environment = {**os.environ, **job.env, "BOOTC_LIVE_WORKER": "0"}
    job.statuses.append(subprocess.run(job.argv, cwd=REPO, env=environment, check=False).returncode)
    job.logs.append(directory)
    found = report.gather(directory / job.name, job, may_be_empty=False)
    report.keep_costs(found.seconds)
    print(report.summary(found.counts, time.monotonic() - began))
    return int(bool(found.broken))


def _show(job: Job, found: dict[str, report.Results], asked: Asked, directory: Path) -> None:
    stage = job.name in asked.paths
    if stage:
        found[job.name] = report.gather(directory / job.name, job, may_be_empty=asked.chosen)
    if stage or job.failed:
        print(f"\n== {job.name} ==", flush=True)
        _print_logs(job)
    said = report.verdict(job, found[job.name]) if stage else ("FAILED" if job.failed else "made")
    print(f"== {job.name}: {said}, {job.ended - job.began:.0f} s ==", flush=True)


def show_unfinished(jobs: list[Job]) -> None:
    """Print what jobs said that were interrupted: one of them may be why."""
    for job in jobs:
        if job.started and not job.done:
            print(f"\n== {job.name}: interrupted ==", flush=True)
            _print_logs(job)


def _print_logs(job: Job) -> None:
    for log in job.logs:
        sys.stdout.buffer.write(log.read_bytes())
        sys.stdout.buffer.flush()


def _sum_up(jobs: list[Job], found: dict[str, report.Results], seconds: float) -> int:
    counts: Counter[str] = Counter()
    groups: dict[str, float] = {}
    print()
    for results in found.values():
        counts.update(results.counts)
        groups.update(results.seconds)
    report.keep_costs(groups)
    print("\n".join([*report.slowest(groups), *report.minutes(jobs, seconds)]))
    for job in jobs:
        if job.name in found:
            print(f"{job.name:12} {report.verdict(job, found[job.name])}, {job.ended - job.began:.0f} s")
    print(report.summary(counts, seconds))
    ran = sum(results.ran for results in found.values())
    return int(not ran or any(results.broken for results in found.values()))


def main(argv: list[str]) -> int:
    """Run `tests/run`; returns the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if argv[:1] == ["mutants"]:
        return subprocess.run([sys.executable, "-m", "tests.mutants.run", *argv[1:]], cwd=REPO, check=False).returncode
    try:
        asked = parse(argv)
    except UsageError as error:
        script = (REPO / "tests/run").read_text().splitlines()
        print(f"{script[1].removeprefix('# ')}\ntests/run: {error}", file=sys.stderr)
        return 2
    (REPO / "build").mkdir(exist_ok=True)
    # In the repository, which the roots see, too.
    with tempfile.TemporaryDirectory(prefix="results.", dir=REPO / "build") as name:
        try:
            return run(asked, Path(name))
        except subprocess.CalledProcessError as error:
            print(f"tests/run: exit status {error.returncode} of: {' '.join(map(str, error.cmd))}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("tests/run: interrupted", file=sys.stderr)
            return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
