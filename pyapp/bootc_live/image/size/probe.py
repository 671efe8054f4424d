"""Small questions side by side, for a few seconds at the most; whatever has no answer by then has none."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from bootc_live.base.errors import SourceError

# Seconds for all questions together: what they are good for is not worth a longer wait.
PATIENCE = 5.0
_AT_ONCE = 8

_Thing = TypeVar("_Thing")
_Answer = TypeVar("_Answer")


def run_probes(
    things: Sequence[_Thing], look: Callable[[_Thing], _Answer | None], patience: float = PATIENCE
) -> list[tuple[_Thing, _Answer]]:
    """Give the answers that came in time; the first SourceError ends the asking, because the others would fail, too."""
    waiting, answers = deque(things), deque[tuple[_Thing, _Answer]]()

    def work() -> None:
        while waiting:
            try:
                thing = waiting.popleft()
            except IndexError:
                return
            try:
                answer = look(thing)
            except SourceError:
                waiting.clear()
                return
            if answer is not None:
                answers.append((thing, answer))

    # Daemons: whoever hangs at a server must not keep the program from ending.
    threads = [threading.Thread(target=work, name="look", daemon=True) for _ in things[:_AT_ONCE]]
    end = time.monotonic() + patience
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    waiting.clear()
    return list(answers)
