"""The zipapp as `Program` runs it, but forked from a process that has imported all of it: a start takes no time then.

`python3 -m tests.lib.forked_program ZIPAPP SOCKET` answers each connection to SOCKET, which brings one run as a line of
JSON, with the exit status. Every run is a fork of the state right after the imports, in the same namespaces, so nothing
of one reaches the next. Several can run at once.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import BoundedSemaphore
from typing import IO, Any, Final

from tests.lib.killed_at import arm
from tests.lib.program import ENVIRONMENT, SECONDS, Ended, Program, byte_code, copied
from tests.lib.tree_list import Line
from tests.lib.verbs import Result, go_apart, look_around

_REPO: Final = Path(__file__).resolve().parents[2]
# What the package imports only where it is used.
_LIBRARIES: Final = ("yaml", "requests", "oras.provider")
# Runs at once; who comes later waits.
_AT_ONCE: Final = 4


class ForkedProgram(Program):
    """A `Program` whose runs are forks; made by `forked_program`. May be used by several threads."""

    def __init__(self, zipapp: Path, server: Path, directory: Path) -> None:
        super().__init__(zipapp)
        self._server, self._directory = str(server), directory
        self._room = BoundedSemaphore(_AT_ONCE)

    def run(
        self, *argv: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: int | None = None
    ) -> Ended:
        """Runs a verb to its end; `env` is added to a small clean environment. `stdin` is always empty here."""
        assert stdin is None, "use Program for that"
        return self._ask({"argv": _words(argv), "env": dict(env or {}), "cwd": str(cwd or Path.cwd())})[0]

    def run_apart(self, argv: Sequence[str | Path], tree: Path, hidden: Sequence[str] = ()) -> Result:
        """Runs a verb in a mount namespace of its own, and lists `tree` if it succeeded. What it mounted is gone then.

        The programs `hidden` (absolute paths) cannot be found by it.
        """
        ended, seen = self._ask({"argv": _words(argv), "tree": str(tree), "hidden": list(hidden)})
        said = ended.stdout + ended.stderr
        assert seen, f"{argv} died with status {ended.status}:\n{said}"
        return Result(output=said, **{**seen, "tree": [Line(*fields) for fields in seen["tree"]]})

    def run_to_step(self, step: int, *argv: str | Path, synced: Sequence[Path] = ()) -> tuple[Ended, list[str]]:
        """Runs a verb until step number `step`, where all of it is killed; 0 is never. Returns the steps, too.

        The file systems of the directories `synced` write their journals just before. See `killed_at`.
        """
        with tempfile.NamedTemporaryFile(dir=self._directory) as log:
            kill = {"step": step, "log": log.name, "synced": _words(synced)}
            ended, _ = self._ask({"argv": _words(argv), "kill": kill})
            return ended, Path(log.name).read_text(errors="surrogateescape").splitlines()

    def _ask(self, request: Mapping[str, Any]) -> tuple[Ended, dict[str, Any]]:
        """How a run ended, and what was seen from inside where it was apart."""
        with self._room, tempfile.TemporaryDirectory(dir=self._directory) as place:
            out, err, seen = (Path(place, name) for name in ("out", "err", "seen"))
            whole = {"env": {}, "cwd": str(_REPO), "out": str(out), "err": str(err), "seen": str(seen), **request}
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(self._server)
                connection.sendall(json.dumps(whole).encode() + b"\n")
                with connection.makefile() as answer:
                    # To its end, which is that of the process that answers.
                    status = int(answer.read())
            return Ended(status, _text(out), _text(err)), json.loads(seen.read_text()) if seen.exists() else {}


@contextmanager
def forked_program(zipapp: Path, directory: Path) -> Iterator[ForkedProgram]:
    """The zipapp, ready to run; `directory` is for its files. Ended with the block.

    A copy is what runs: an import of the original that is being built again would fail.
    """
    copy = copied(zipapp, directory / "program.pyz")
    listening = directory / "socket"
    command = [sys.executable, "-m", "tests.lib.forked_program", str(copy), str(listening)]
    environment = {**os.environ, **ENVIRONMENT}
    with subprocess.Popen(
        command, cwd=_REPO, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert _pipe(server.stdout).readline() == "ready\n"
            yield ForkedProgram(copy, listening, directory)
        finally:
            server.terminate()


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


def _run(main: Any, zipapp: str, request: Mapping[str, Any]) -> int:
    signal.alarm(SECONDS)
    apart = "tree" in request
    before = go_apart(request["hidden"]) if apart else []
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update({**ENVIRONMENT, **request["env"]})
    _redirected(request["out"], 1)
    _redirected(request["err"], 2)
    sys.argv = [zipapp, *request["argv"]]
    if "kill" in request:
        arm(request["kill"])
    try:
        status = main(request["argv"]) or 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    sys.stdout.flush()
    sys.stderr.flush()
    if apart:
        Path(request["seen"]).write_text(json.dumps(look_around(int(status), request["tree"], before)))
    return int(status)


def _forked(main: Any, zipapp: str, request: Mapping[str, Any], connection: socket.socket) -> int:
    """The exit status of a run in a process of its own, or the number of its signal below zero."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            # Whatever a run leaves behind does not hold the answer back.
            connection.close()
            code = _run(main, zipapp, request)
        except BaseException:  # noqa: BLE001 (nothing of the parent's program may run on in the fork)
            traceback.print_exc()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _answer(main: Any, zipapp: str, connection: socket.socket) -> None:
    with connection.makefile() as lines:
        request = json.loads(lines.readline())
    connection.sendall(str(_forked(main, zipapp, request, connection)).encode())


def _reap() -> None:
    """Waits for the processes that have answered."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def serve(zipapp: str, listening: str) -> None:
    """Answers whoever connects, several at once, until it is ended."""
    # As the program itself starts, from byte code if there is some: to compile all modules takes seconds.
    compiled = byte_code(Path(zipapp))
    found = str(compiled) if compiled.exists() else zipapp
    sys.path.insert(0, found)
    package = importlib.import_module("bootc_live")
    assert found in str(package.__file__), "the package did not come from the zipapp"
    main = importlib.import_module("bootc_live.__main__").main
    for name in (*_LIBRARIES, *(found.name for found in pkgutil.walk_packages(package.__path__, "bootc_live."))):
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(listening)
        server.listen(64)
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            _reap()
            if os.fork() == 0:
                server.close()
                try:
                    _answer(main, zipapp, connection)
                except BaseException:  # noqa: BLE001 (as above)
                    traceback.print_exc()
                os._exit(0)
            connection.close()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
