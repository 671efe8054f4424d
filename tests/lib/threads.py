"""Which threads a block leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_thread_left() -> Iterator[None]:
    """Raise AssertionError if the block leaves a thread behind, whether it fails or not.

    Daemons do not count: they may take their time to end, and those of earlier tests end whenever they do.
    """
    before = set(threading.enumerate())
    try:
        yield
    finally:
        left = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
        assert not left, left
