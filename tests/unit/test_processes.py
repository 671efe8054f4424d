"""Processes that are copies of the parent: what they get, how they end, and that none outlives its block."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bootc_live.system.cleanup.guard import EndedError, call_in_parent, run_in_child
from bootc_live.system.cleanup.processes import started


def copy(source: int, target: int, messages: int, code: int) -> int:
    """Copy a little, and say what there is."""
    os.write(target, os.read(source, 100).upper())
    os.write(messages, " ".join(sorted(os.listdir("/proc/self/fd"))).encode())
    return code


def wait(_source: int, target: int, _messages: int) -> int:
    """Say that it runs, and wait for its end."""
    os.write(target, str(os.getpid()).encode())
    signal.pause()
    return 0


def fail(_source: int, _target: int, _messages: int) -> int:
    """End unexpectedly."""
    raise KeyError


@contextmanager
def pipes() -> Iterator[tuple[list[int], list[int]]]:
    """The ends for a process, then ours: what it reads, what it wrote, what it said."""
    made = [os.pipe() for _ in range(3)]
    theirs, ours = [made[0][0], made[1][1], made[2][1]], [made[0][1], made[1][0], made[2][0]]
    try:
        yield theirs, ours
    finally:
        for end in (*theirs, *ours):
            with suppress(OSError):
                os.close(end)


def in_a_child(work: object) -> int:
    assert callable(work)
    return run_in_child(lambda: int(work() or 0))


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def call_and_look() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with pipes() as (theirs, ours):
        with started(copy, 3, descriptors=(theirs[0], theirs[1], theirs[2])) as process:
            # Whoever ends the group of the work ends this one, too.
            assert os.getpgid(process.pid) == os.getpgid(0)
            os.write(ours[0], b"text")
            assert process.wait() == process.wait() == 3
            assert process.ended(0)
        assert os.read(ours[1], 100) == b"TEXT"
        # The three, and the one that lists them.
        assert os.read(ours[2], 100) == b"0 1 2 3"
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_call() -> None:
    call_and_look()


def test_call_from_a_child() -> None:
    assert in_a_child(call_and_look) == 0


def test_call_without_the_right_to_trace() -> None:
    """Containers and hardened systems withhold it: pidfd_getfd(2) fails there."""
    load, equal, give = 0x20, 0x15, 0x06
    steps = [(load, 0, 0, 0), (equal, 0, 1, 438), (give, 0, 0, 0x50000 | errno.EPERM), (give, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))

    def work() -> int:
        libc = ctypes.CDLL(None)
        libc.prctl(38, 1, 0, 0, 0)
        assert libc.prctl(22, 2, struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)), 0, 0) == 0
        return in_a_child(call_and_look)

    assert in_a_child(work) == 0


def test_more_descriptors_than_may_be_open() -> None:
    """One that is lost on the way must not be taken for the next."""

    def work() -> None:
        with pipes() as (theirs, _):
            # When it answers, it has closed what is not its own.
            call_in_parent(os.getpid)
            taken = {int(name) for name in os.listdir(f"/proc/{os.getppid()}/fd")}
            _, second = sorted(set(range(len(taken) + 2)) - taken)[:2]
            resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (second, limits[1]))
            with pytest.raises(OSError, match="Too many open files"):
                call_in_parent(os.dup2, descriptors=(theirs[0], theirs[1]))

    before = sorted(os.listdir("/proc/self/fd"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert in_a_child(work) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_unexpected_end() -> None:
    with pipes() as (theirs, _), started(fail, descriptors=(theirs[0], theirs[1], theirs[2])) as process:
        assert process.wait() == 70


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_kills_it(error: type[BaseException]) -> None:
    pid = 0
    with pipes() as (theirs, ours):
        process = started(wait, descriptors=(theirs[0], theirs[1], theirs[2]))
        with pytest.raises(error), process as running:  # noqa: PT012 (the block is what is tested)
            pid = int(os.read(ours[1], 100))
            assert not running.ended(0)
            assert not gone(pid)
            raise error
    assert gone(pid)


def test_none_outlives_the_child(tmp_path: Path) -> None:
    said = tmp_path / "pid"

    def work() -> None:
        with pipes() as (theirs, ours), started(wait, descriptors=(theirs[0], theirs[1], theirs[2])):
            said.write_bytes(os.read(ours[1], 100))
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(EndedError):
        in_a_child(work)
    assert gone(int(said.read_text()))
