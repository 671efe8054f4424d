"""The zipapp as `Program` runs it, but forked from a process that has imported it: for tables of many short runs.

`python3 -m tests.lib.forked_program ZIPAPP` answers each JSON line on standard input, a run, with its exit status.
Every run is a fork of the state right after the imports, in the same namespaces, so nothing of one reaches the next.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, Final

from tests.lib.program import ENVIRONMENT, SECONDS, Ended, Program
from tests.lib.visits import Visits

_REPO: Final = Path(__file__).resolve().parents[2]
_IMPORTED: Final = (
    "yaml",
    "oras.provider",
    "bootc_live.cli.boot",
    "bootc_live.cli.inspect",
    "bootc_live.config.registries",
    "bootc_live.source.http.archive",
    "bootc_live.source.registry.source",
)


class ForkedProgram(Program):
    """A `Program` whose runs are forks of `server`; made by `forked_program`."""

    def __init__(self, zipapp: Path, server: subprocess.Popen[str], directory: Path) -> None:
        super().__init__(zipapp)
        self._server, self._directory = server, directory
        self._lock = threading.Lock()

    def run(
        self, *argv: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: int | None = None
    ) -> Ended:
        """Runs a verb to its end; `env` is added to a small clean environment. `stdin` is always empty here."""
        assert stdin is None, "use Program for that"
        return self._ask({"argv": _words(argv), "env": dict(env or {}), "cwd": str(cwd or _REPO)})

    def places(self, files: str, *argv: str | Path) -> list[str]:
        """The places in some files that a verb comes to, in this order; see `Visits`."""
        places = self._directory / "places"
        self._ask({"argv": _words(argv), "files": files, "places": str(places)}).good()
        return list(json.loads(places.read_text()))

    def interrupted(self, files: str, place: str, *argv: str | Path) -> Ended:
        """Runs a verb up to one of its places, and interrupts it there."""
        return self._ask({"argv": _words(argv), "files": files, "stop": place})

    def _ask(self, request: Mapping[str, Any]) -> Ended:
        out, err = self._directory / "out", self._directory / "err"
        whole = {"env": {}, "cwd": str(_REPO), "out": str(out), "err": str(err), **request}
        with self._lock:
            _pipe(self._server.stdin).write(json.dumps(whole) + "\n")
            _pipe(self._server.stdin).flush()
            status = int(_pipe(self._server.stdout).readline())
            return Ended(status, _text(out), _text(err))


@contextmanager
def forked_program(zipapp: Path, directory: Path) -> Iterator[ForkedProgram]:
    """The zipapp, ready to run; `directory` is for its files. Ended with the block.

    A copy is what runs: an import of the original that is being built again would fail.
    """
    copy = Path(shutil.copy(zipapp, directory / "program.pyz"))
    command = [sys.executable, "-m", "tests.lib.forked_program", str(copy)]
    environment = {**os.environ, **ENVIRONMENT}
    with subprocess.Popen(
        command, cwd=_REPO, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert _pipe(server.stdout).readline() == "ready\n"
        yield ForkedProgram(copy, server, directory)
        _pipe(server.stdin).close()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _words(argv: Iterable[str | Path]) -> list[str]:
    return [str(word) for word in argv]


def _text(path: Path) -> str:
    return path.read_text(errors="backslashreplace")


def _redirected(path: str, number: int) -> None:
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(opened, number)
    os.close(opened)


def _run(main: Any, request: Mapping[str, Any]) -> int:
    signal.alarm(SECONDS)
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update({**ENVIRONMENT, **request["env"]})
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    _redirected(request["out"], 1)
    _redirected(request["err"], 2)
    sys.argv = ["bootc-live", *request["argv"]]
    visits = Visits(request["files"], request.get("stop")) if "files" in request else None
    try:
        with visits.made() if visits else nullcontext():
            status = main(request["argv"]) or 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    if visits and "places" in request:
        Path(request["places"]).write_text(json.dumps(list(visits.places)))
    sys.stdout.flush()
    return int(status)


def serve(zipapp: str) -> None:
    """Answers requests until standard input ends: with an exit status, or a signal's number below zero."""
    sys.path.insert(0, zipapp)
    main = importlib.import_module("bootc_live.__main__").main
    for name in _IMPORTED:
        importlib.import_module(name)
    assert zipapp in str(sys.modules["bootc_live"].__file__), "the package did not come from the zipapp"
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                code = _run(main, json.loads(line))
            except BaseException:  # noqa: BLE001 (nothing of the parent's program may run on in the fork)
                traceback.print_exc()
            os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
