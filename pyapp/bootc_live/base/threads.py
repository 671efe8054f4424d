"""A thread that has ended when the block it works for is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def working(work: Callable[[], object], stop: Callable[[], None], name: str) -> Iterator[Callable[[], object]]:
    """Run ``work`` in a thread while the block runs, then call ``stop``, which makes it end soon.

    The block gets a function that waits until ``work`` has ended by itself.
    """
    thread = threading.Thread(target=work, name=name)
    thread.start()
    try:
        yield thread.join
    finally:
        stop()
        thread.join()
