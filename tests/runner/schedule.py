"""Runs commands beside each other, as many as the processors bear, each as soon as what it needs is there."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.runner.stages import REPO

_GRACE: Final = 20.0
"""Seconds that processes have to end after SIGTERM, before SIGKILL."""


@dataclass
class Job:
    """A command, run by up to `workers` processes that share its work. `room` is what each takes of a place.

    The scheduler fills in the rest: `logs`, what each process prints to; `statuses`, of those that have ended; seconds
    from the start of the run until the first process `began` and the last one `ended`; and seconds of `cpu`.
    """

    name: str
    argv: list[str]
    needs: tuple[str, ...] = ()
    workers: int = 1
    room: float = 1.0
    alone: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    logs: list[Path] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0
    cpu: float = 0.0
    skipped: bool = False

    @property
    def started(self) -> int:
        """How many processes have been started."""
        return len(self.logs)

    @property
    def done(self) -> bool:
        """Whether it has been started and no process of it runs."""
        return self.skipped or 0 < self.started == len(self.statuses)

    @property
    def failed(self) -> bool:
        """Whether it was left out, or a process of it failed. pytest's status 5 says that there was no test for it."""
        return self.skipped or any(status not in (0, 5) for status in self.statuses)


class Schedule:
    """Jobs in order of importance: a place that comes free goes to the first one that can take it."""

    def __init__(self, jobs: list[Job], places: int, logs: Path) -> None:
        """Plan `jobs` for so many processes at once; `logs` is a directory for what they print."""
        self._jobs = jobs
        self._places = places
        self._logs = logs
        self._running: dict[int, tuple[Job, subprocess.Popen[bytes]]] = {}
        self._began = time.monotonic()

    def run(self, told: Callable[[Job], None], begun: Callable[[Job], None]) -> None:
        """Run all jobs; `begun` and `told` are called as each begins and when it is done or cannot be started."""
        try:
            while not all(job.done for job in self._jobs):
                self._skip(told)
                while (job := self._next()) is not None:
                    if not job.started:
                        job.began = self._now()
                        begun(job)
                    self._start(job)
                if self._running:
                    self._wait(told)
        finally:
            self._end_all()

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _skip(self, told: Callable[[Job], None]) -> None:
        broken = {job.name for job in self._jobs if job.done and job.failed}
        for job in self._jobs:
            if not job.started and not job.skipped and broken & set(job.needs):
                job.skipped = True
                broken.add(job.name)
                told(job)

    def _next(self) -> Job | None:
        if any(job.alone for job, _ in self._running.values()):
            return None
        left = self._places - sum(job.room for job, _ in self._running.values())
        made = {job.name for job in self._jobs if job.done}
        known = {job.name for job in self._jobs}
        for job in self._jobs:
            # Where one process found nothing more to do, another one would not either.
            open_to_more = job.started < job.workers and not job.statuses and not job.skipped and job.room <= left
            if open_to_more and all(need in made or need not in known for need in job.needs):
                return None if job.alone and self._running else job
        return None

    def _start(self, job: Job) -> None:
        log = self._logs / f"{job.name}.{job.started}.log"
        environment = {**os.environ, **job.env, "BOOTC_LIVE_WORKER": str(job.started)}
        with log.open("wb") as output:
            process = subprocess.Popen(
                job.argv,
                cwd=REPO,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        job.logs.append(log)
        self._running[process.pid] = (job, process)

    def _wait(self, told: Callable[[Job], None]) -> None:
        pid, status, usage = os.wait4(-1, 0)
        if pid not in self._running:
            return
        job, process = self._running.pop(pid)
        process.returncode = os.waitstatus_to_exitcode(status)
        job.statuses.append(process.returncode)
        if process.returncode:
            # What a process started that ended in the middle of a test would go on.
            _signal(pid, signal.SIGKILL)
        job.cpu += usage.ru_utime + usage.ru_stime
        if job.done:
            job.ended = self._now()
            told(job)

    def _end_all(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._running:
                _signal(pid, number)
            deadline = time.monotonic() + _GRACE
            for _, process in self._running.values():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
