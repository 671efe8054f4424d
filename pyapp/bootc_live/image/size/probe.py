"""Ask small questions in parallel, for a few seconds at most."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from bootc_live.base.errors import SourceError

# Seconds for all questions together: an estimate is not worth a longer wait.
PATIENCE = 5.0
_AT_ONCE = 8

_Thing = TypeVar("_Thing")
_Answer = TypeVar("_Answer")


def run_probes(
    things: Sequence[_Thing], probe: Callable[[_Thing], _Answer | None], patience: float = PATIENCE
) -> list[tuple[_Thing, _Answer]]:
    """Return the answers that came in time; the first SourceError ends it, because the others would fail, too."""
    waiting, answers = deque(things), deque[tuple[_Thing, _Answer]]()

    def work() -> None:
        while waiting:
            try:
                thing = waiting.popleft()
            except IndexError:
                return
            try:
                answer = probe(thing)
            except SourceError:
                waiting.clear()
                return
            if answer is not None:
                answers.append((thing, answer))

    # Daemons: a server that hangs must not keep the program from ending.
    threads = [threading.Thread(target=work, name="probe", daemon=True) for _ in things[:_AT_ONCE]]
    end = time.monotonic() + patience
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    waiting.clear()
    return list(answers)
