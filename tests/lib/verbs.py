"""What a test uses to run verbs of the zipapp and to see what they left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from tests.lib.program import Ended
from tests.lib.tree_list import Line
from tests.lib.verb_server import Request

REPO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Result:
    """How a verb ended, while its mount namespace still lived: what it said, the tree it made, what it left."""

    status: int
    output: str
    tree: list[Line]
    mounts: list[str]
    processes: list[str]


class Verbs:
    """Runs verbs one after the other; made by `verbs()`."""

    def __init__(self, stdin: IO[str], stdout: IO[str], directory: Path) -> None:
        self._stdin, self._stdout = stdin, stdout
        self._log, self._answer = directory / "log", directory / "answer"

    def run(self, argv: Sequence[str | Path], tree: Path, hidden: Sequence[str] = ()) -> Result:
        """Runs `argv` and lists `tree` if it succeeded. Whatever it mounted is gone afterwards.

        The programs `hidden` (absolute paths) cannot be found by it.

        Raises AssertionError with the output if the verb took its whole process down.
        """
        self._answer.unlink(missing_ok=True)
        request = Request([str(word) for word in argv], str(tree), str(self._log), str(self._answer), list(hidden))
        self._stdin.write(json.dumps(asdict(request)) + "\n")
        self._stdin.flush()
        ended = self._stdout.readline().strip()
        output = self._log.read_text(errors="backslashreplace") if self._log.exists() else ""
        assert ended == "0", f"{request.argv} died with wait status {ended!r}:\n{output}"
        answer = json.loads(self._answer.read_text())
        answer["tree"] = [Line(*fields) for fields in answer["tree"]]
        return Result(output=output, **answer)


@contextmanager
def verbs(zipapp: Path, directory: Path) -> Iterator[Verbs]:
    """A server for the zipapp; `directory` is for its files. Ended with the block."""
    command = [sys.executable, "-m", "tests.lib.verb_server", str(zipapp)]
    with subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield Verbs(server.stdin, server.stdout, directory)
        server.stdin.close()


def the_error(result: Result, typed: str | Path) -> str:
    """The one error message of a verb that failed as it should; it names `typed`, and nothing is left mounted."""
    message = Ended(result.status, "", result.output).error(typed)
    assert not result.mounts, result.mounts
    assert not result.processes, result.processes
    return message
