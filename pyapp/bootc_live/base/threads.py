"""A thread that ends with a block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def background_thread(
    work: Callable[[], object], stop: Callable[[], None], name: str
) -> Iterator[Callable[[], object]]:
    """Run ``work`` in a thread, call ``stop`` at the end of the block, and wait for the thread.

    Yields a function that waits until ``work`` has returned.
    """
    thread = threading.Thread(target=work, name=name)
    thread.start()
    try:
        yield thread.join
    finally:
        stop()
        thread.join()
