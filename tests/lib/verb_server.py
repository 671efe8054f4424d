"""Runs many verbs of the zipapp, each in a process and mount namespace of its own, without starting Python each time.

`python3 -m tests.lib.verb_server ZIPAPP` reads one JSON request per line from standard input and answers each with one
line. The zipapp is imported once; every request is a fork of that state, so nothing of one request reaches the next.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.lib.tree_list import tree_list

_CLONE_NEWNS: Final = 0x00020000
_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 1 << 18
_SECONDS: Final = 300

Main = Callable[[list[str]], int | None]


@dataclass(frozen=True)
class Request:
    """`argv` of the verb; `tree` is listed after success; the output goes to `log`, the answer to `answer`.

    Programs in `hidden` cannot be found by the verb.
    """

    argv: list[str]
    tree: str
    log: str
    answer: str
    hidden: list[str] = field(default_factory=list)


def mounts() -> list[str]:
    """The mounts of this namespace, as `device on place`."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sorted(f"{line.split(' - ')[1].split()[1]} on {line.split()[4]}" for line in lines)


def processes(session: int) -> list[str]:
    """The other processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                status = (entry / "stat").read_text()
                if int(status.rpartition(")")[2].split()[3]) == session:
                    found.append(status.partition(" (")[2].partition(")")[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def _own_namespace(hidden: list[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    for program in hidden:
        failed = failed or libc.mount(b"/dev/null", program.encode(), None, _MS_BIND, None)
    if failed:
        raise OSError(ctypes.get_errno(), "no mount namespace; run these tests as root")


def _outputs(log: str) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for source, target in ((null, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(out)


def _status(main: Main, argv: list[str]) -> int:
    try:
        return main(argv) or 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def _perform(main: Main, request: Request) -> None:
    signal.alarm(_SECONDS)
    _own_namespace(request.hidden)
    os.setsid()
    _outputs(request.log)
    before = mounts()
    sys.argv = ["bootc-live", *request.argv]
    status = _status(main, request.argv)
    sys.stdout.flush()
    sys.stderr.flush()
    answer: dict[str, Any] = {"status": status, "tree": [], "mounts": [], "processes": processes(os.getsid(0))}
    answer["mounts"] = [mount for mount in mounts() if mount not in before]
    if status == 0:
        answer["tree"] = [line.fields() for line in tree_list(request.tree)]
    Path(request.answer).write_text(json.dumps(answer))


def _child(main: Main, request: Request) -> None:
    code = 1
    try:
        _perform(main, request)
        code = 0
    except BaseException:  # noqa: BLE001 (nothing of the parent's program may run on in the fork)
        traceback.print_exc()
    os._exit(code)


def serve(zipapp: str) -> None:
    """Answers requests until standard input ends.

    The line that answers a request is the wait status of its process: 0, or how it died without an answer, for example
    SIGALRM if it took some minutes.
    """
    sys.path.insert(0, zipapp)
    main: Main = importlib.import_module("bootc_live.__main__").main
    for verb in ("boot", "unpack"):
        importlib.import_module(f"bootc_live.cli.{verb}")
    assert zipapp in str(sys.modules["bootc_live"].__file__), "the package did not come from the zipapp"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _child(main, Request(**json.loads(line)))
        _, status = os.waitpid(pid, 0)
        print(status, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
