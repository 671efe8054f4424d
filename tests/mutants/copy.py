"""A scratch copy of the repository, in which one mutation after the other is made and undone."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutation import REPO, Mutation

_CACHE = "build/mutants-cache"
_USAGE_ERROR, _NO_TESTS = 4, 5
_NOT_FOUND = re.compile("^ERROR: (file or directory )?not found", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What a run of tests came to: `failed` are the tests that did, `timed_out` tells that it had to be ended."""

    passed: bool
    failed: tuple[str, ...] = ()
    timed_out: bool = False
    said: str = ""


class Copy:
    """The repository's files in the new directory `top`, with the tests of `revision` where one is named.

    It has to lie inside the repository, so that vm/enter of the repository shows it to the roots, too.
    """

    def __init__(self, top: Path, revision: str | None = None) -> None:
        """Make it."""
        self.top = top
        self._running: subprocess.Popen[str] | None = None
        self.top.mkdir()
        argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(argv, cwd=REPO, check=True, capture_output=True, text=True).stdout
        for file in filter(None, listed.split("\0")):
            if (REPO / file).exists():
                (self.top / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPO / file, self.top / file, follow_symlinks=False)
        if revision is not None:
            shutil.rmtree(self.top / "tests")
            packed = subprocess.run(
                ["git", "archive", revision, "tests", "pyproject.toml"], cwd=REPO, check=True, capture_output=True
            )
            subprocess.run(["tar", "-x"], cwd=self.top, check=True, input=packed.stdout)
        (self.top / "build").mkdir()
        self._link("build/wheels")
        self._link("vm/out")
        self._link("vm/enter")
        # Byte code is told from older one by whole seconds of this.
        self._changed_at = time.time()

    @contextmanager
    def mutated(self, mutation: Mutation) -> Iterator[None]:
        """Make a mutation, and the zipapp of it, while the block runs."""
        path = self.top / mutation.file
        before, status = path.read_bytes(), path.stat()
        self._changed_at += 2
        path.write_text(mutation.applied(self.top), encoding="utf-8")
        os.utime(path, (self._changed_at, self._changed_at))
        try:
            self.build_zipapp()
            yield
        finally:
            path.write_bytes(before)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def build_zipapp(self) -> None:
        """Bring the zipapp up to date."""
        subprocess.run([sys.executable, "pyapp/build_zipapp.py"], cwd=self.top, check=True, stdout=subprocess.DEVNULL)

    def build_artefacts(self) -> None:
        """Bring what guests boot up to date, in a directory of the copy's own."""
        out = self.top / "vm" / "out"
        if out.is_symlink():
            out.unlink()
            out.mkdir()
            self._link("vm/out/roots")
        subprocess.run(["vm/build"], cwd=self.top, check=True, stdin=subprocess.DEVNULL)

    def test(self, stage: str, tests: Sequence[str], timeout: float, *, first: bool = True) -> Outcome:
        """Run tests of a stage, up to the first that fails unless `first` is off."""
        cache = self.top / _CACHE
        shutil.rmtree(cache, ignore_errors=True)
        options = ["-q", "--no-header", "--tb=line", "-o", f"cache_dir={_CACHE}", *(["-x"] if first else [])]
        environment = os.environ | {"PYTHONPYCACHEPREFIX": str(self.top / "build" / "pycache"), "LC_ALL": "C.UTF-8"}
        process = self._running = subprocess.Popen(
            [*_python(stage), "-m", "pytest", *options, *tests],
            cwd=self.top,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            said = process.communicate(timeout=timeout)[0]
        except subprocess.TimeoutExpired:
            return Outcome(passed=False, timed_out=True)
        finally:
            # Programs that tests left running, too.
            _end_group(process)
        missing = process.returncode == _USAGE_ERROR and _NOT_FOUND.search(said)
        if process.returncode == _NO_TESTS or missing:
            raise LookupError(f"there is no {' '.join(tests)}")
        return Outcome(process.returncode == 0, _last_failed(cache), said=said)

    def end(self) -> None:
        """End what runs here, from another thread."""
        if self._running is not None:
            _end_group(self._running)

    def _link(self, name: str) -> None:
        path = self.top / name
        path.unlink(missing_ok=True)
        path.symlink_to(os.path.relpath(REPO / name, path.parent))


def _python(stage: str) -> list[str]:
    """Return the interpreter of a stage: the one of the builder root, or the one that runs this."""
    if stage != "integration":
        return [sys.executable]
    site = sysconfig.get_path("purelib")
    return [str(REPO / "vm" / "enter"), "builder", "env", f"PYTHONPATH={site}", "python3"]


def _last_failed(cache: Path) -> tuple[str, ...]:
    path = cache / "v" / "cache" / "lastfailed"
    return tuple(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else ()


def _end_group(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
