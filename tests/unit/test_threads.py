"""A thread has ended when its block is left."""

from __future__ import annotations

import threading

import pytest

from bootc_live.base.threads import background_thread


def test_the_block_can_wait_for_the_work() -> None:
    done, stop = [], threading.Event()
    with background_thread(lambda: done.append("work"), stop.set, "it") as wait:
        wait()
        assert (done, stop.is_set()) == (["work"], False)
    assert stop.is_set()


def test_an_error_in_the_block_ends_it() -> None:
    stop = threading.Event()
    with pytest.raises(KeyError), background_thread(stop.wait, stop.set, "it"):
        raise KeyError
    assert "it" not in [thread.name for thread in threading.enumerate()]
