"""Threads that have ended when the block they work for is left, even by an interruption.

The standard library loses threads to an exception out of a signal handler: a pool does not know of a thread whose
start is broken off, and Python 3.11 takes a thread whose joining is broken off for ended, however often it is joined
again. So an interruption waits for starts and joins, and what may take long is waited for inside the block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from bootc_live.base.interrupt import held_off

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Pool(ThreadPoolExecutor):
    """A thread pool for a ``with`` block, which has to make the work end that it does not wait for."""

    def submit(
        self, fn: Callable[_Parameters, _Result], /, *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> Future[_Result]:
        """Submit work as the base class does."""
        with held_off():
            return super().submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut down as the base class does."""
        with held_off():
            super().shutdown(wait, cancel_futures=cancel_futures)


@contextmanager
def working(work: Callable[[], object], stop: Callable[[], None], name: str) -> Iterator[Callable[[], object]]:
    """Run ``work`` in a thread while the block runs, then call ``stop``, which makes it end soon.

    The block gets a function that waits until ``work`` has ended by itself.
    """
    over = threading.Event()

    def run() -> None:
        try:
            work()
        finally:
            over.set()

    thread = threading.Thread(target=run, name=name)
    try:
        with held_off():
            thread.start()
        yield over.wait
    finally:
        with held_off():
            stop()
            # An interruption may have come before its start.
            if thread.ident is not None:
                thread.join()
