"""Signals that end the program: each comes through, once, and leaves no lock taken."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pyapp"
SECONDS = 120

BEFORE = f"""
import os, signal, sys, threading
sys.path.insert(0, {str(PACKAGE)!r})
from bootc_live.base import interrupt
from bootc_live.base.interrupt import Interrupted, held_off, interrupt_once
from bootc_live.base.run import run
interrupt_once()
lock = threading.Lock()
def end():
    signal.raise_signal(signal.SIGTERM)
"""
# What each program does up to its interruption; without one, none of them ends.
ENDINGS = {
    # Python's part of the handler has yet to run when the wait begins: another thread got the signal.
    "a lock that nobody releases": """
lock.acquire()
threading.Timer(0.2, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()
lock.acquire()
""",
    "a read that never returns": """
threading.Timer(0.2, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()
os.read(os.pipe()[0], 1)
""",
    # As most of the time; a program that works for this one got the signal, too, and must not be the first to tell.
    "a wait that nobody ends, without a second sending": """
interrupt._AGAIN = 3600
def when_it_waits():
    while not interrupt._waits_there(sys._current_frames()[threading.main_thread().ident]):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=when_it_waits).start()
threading.Event().wait()
""",
    "a finalizer": """
class Thing:
    def __del__(self):
        end()
Thing()
lock.acquire()
lock.acquire()
""",
    "a program that got it first": """
interrupt._OTHERS = 100
run(["sh", "-c", "(sleep 0.1; kill -TERM $PPID) >/dev/null 2>&1 & kill -TERM $$"], hint="")
""",
    "held off": """
with held_off():
    end()
    print("went on", flush=True)
lock.acquire()
lock.acquire()
""",
    "somewhere": "end()",
}
TAKING = """
taken = threading.Condition(threading.Lock())
def profile(frame, event, argument):
    if frame.f_code.co_name == "__enter__" and event == "c_return":
        sys.setprofile(None)
        end()
try:
    sys.setprofile(profile)
    with taken:
        pass
    while True:
        pass
except Interrupted:
    print("free" if taken.acquire(blocking=False) else "taken")
"""


# Where else it would do harm: what the program looks for, and what must have been done when it ends.
HALVES = """
import tempfile
interrupt._AGAIN = 0.5
from contextlib import contextmanager
done = []
@contextmanager
def taken():
    done.append("taken")
    try:
        yield
    finally:
        done.append("given")
        done.append("back")
def trace(frame, event, argument):
    if MOMENT:
        sys.settrace(None)
        signal.getsignal(signal.SIGTERM)(signal.SIGTERM, frame)
        os.write(interrupt._state.wake, bytes([signal.SIGTERM]))
    return trace
place = None
try:
    sys.settrace(trace)
    with taken(), tempfile.TemporaryDirectory() as place:
        pass
    while True:
        pass
except Interrupted:
    print(" ".join(done), [name for name in os.listdir() if name.startswith("tmp")])
"""
MOMENTS = {
    "before the block": 'frame.f_code.co_name == "__enter__" and event == "return"',
    "after the block": 'frame.f_code.co_name == "__exit__" and frame.f_globals["__name__"] == "tempfile"',
    "in the second half": 'frame.f_code.co_name == "taken" and event == "line" and done[-1:] == ["given"]',
    "while a directory is made": 'frame.f_code.co_name == "mkdtemp" and event == "return"',
}


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEFORE + program], capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.mark.parametrize("case", ENDINGS)
def test_comes_through(case: str) -> None:
    body = textwrap.indent(ENDINGS[case], "    ")
    done = run(f"try:\n{body}\nexcept Interrupted as error:\n    print('by', error)\n")
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "by SIGTERM"
    assert ("went on" in done.stdout) == (case == "held off")
    assert done.returncode == 0


def test_leaves_no_lock_taken() -> None:
    """Raised between a lock's taking and the block that releases it, nobody would."""
    done = run(TAKING)
    assert (done.stdout, done.stderr) == ("free\n", "")


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_was_taken_is_given_back(moment: str, tmp_path: Path) -> None:
    """Nobody else would do it, and nothing outside may be given back before."""
    body = HALVES.replace("MOMENT", MOMENTS[moment])
    done = run(f"os.chdir({str(tmp_path)!r}); os.environ['TMPDIR'] = {str(tmp_path)!r}\n{body}")
    assert (done.stdout, done.stderr) == ("taken given back []\n", "")


FAILING = """
import bootc_live.__main__ as program
from bootc_live.base.errors import ImageError
from types import SimpleNamespace
def main(arguments):
    def profile(frame, event, argument):
        if frame.f_code.co_name == "__enter__" and event == "call":
            sys.setprofile(None)
            end()
    sys.setprofile(profile)
    with threading.Condition():
        raise ImageError("a program was ended by signal 15", hint="look at it")
program.importlib.import_module = lambda name: SimpleNamespace(main=main)
sys.exit(program.main(["status"]))
"""


def test_what_fails_of_it_meanwhile_is_no_other_failure() -> None:
    """A terminal sends a signal to all programs, and those that do some work for this one may end first."""
    done = run(FAILING)
    assert "interrupted" in done.stderr.splitlines()[0]
    assert done.returncode == 1


def test_a_second_one_does_nothing() -> None:
    """Cleaning up is done to its end."""
    done = run("try:\n    end()\nexcept Interrupted:\n    end()\n    print('cleaned up')")
    assert (done.stdout, done.stderr, done.returncode) == ("cleaned up\n", "", 0)
