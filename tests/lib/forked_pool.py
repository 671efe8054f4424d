"""Several forked programs behind one: for tables whose rows run side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from tests.lib.forked_program import ForkedProgram, forked_program
from tests.lib.program import Ended, Program

SIZE: Final = 4


class ForkedPool(Program):
    """A `Program` that can run so many verbs at once as there are `programs`; who comes later waits."""

    def __init__(self, zipapp: Path, programs: list[ForkedProgram]) -> None:
        super().__init__(zipapp)
        self._free: SimpleQueue[ForkedProgram] = SimpleQueue()
        for program in programs:
            self._free.put(program)

    def run(
        self, *argv: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: int | None = None
    ) -> Ended:
        """See `ForkedProgram`; may be called by several threads."""
        program = self._free.get()
        try:
            return program.run(*argv, env=env, cwd=cwd, stdin=stdin)
        finally:
            self._free.put(program)


@contextmanager
def forked_pool(zipapp: Path, directory: Path, size: int = SIZE) -> Iterator[ForkedPool]:
    """The zipapp, ready to run `size` times at once; `directory` is for its files. Ended with the block."""
    with ExitStack() as stack:

        def start(number: int) -> ForkedProgram:
            place = directory / str(number)
            place.mkdir()
            return stack.enter_context(forked_program(zipapp, place))

        # Importing takes its time.
        with ThreadPoolExecutor(size) as starting:
            programs = list(starting.map(start, range(size)))
        yield ForkedPool(zipapp, programs)
