"""Work in a child: whatever ends it, what it had made is undone, unless its result is there as a whole."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bootc_live.base.errors import RunError
from bootc_live.system.cleanup.guard import STOPPING_SIGNALS, EndedError, commit, owned, run_in_child, undo_at_end

CONTENT = b"handed over"


def make(path: str) -> str:
    """Make a directory."""
    os.mkdir(path)
    return path


def remove(path: str) -> None:
    """Remove it, where it is."""
    if os.path.isdir(path):
        os.rmdir(path)


def publish(made_at: str, name: str) -> None:
    """Make the result visible."""
    os.rename(made_at, name)


def write(descriptor: int, path: str) -> None:
    """Write down what a descriptor has."""
    with os.fdopen(descriptor, "rb") as file, open(path, "wb") as copy:
        copy.write(file.read())


def named(path: str) -> str:
    """Make nothing."""
    return path


def end(child: int) -> None:
    """Do what the child asks for, which is dead when that is done."""
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


def fail(kind: str) -> None:
    """Raise an error of ours or of the system's."""
    if kind == "ours":
        raise RunError("it broke", hint="mend it")
    raise FileNotFoundError(2, "No such file or directory", kind)


def end_parent() -> None:
    """Ask for the end, as a terminal or systemd does, and wait for it."""
    os.kill(os.getppid(), signal.SIGTERM)
    while True:
        signal.pause()


def end_child() -> None:
    """Die as the kernel lets it die that wants memory back."""
    os.kill(os.getpid(), signal.SIGKILL)


ENDS: dict[str, Callable[[], None]] = {"signal to the parent": end_parent, "child killed": end_child}


def test_status() -> None:
    assert run_in_child(lambda: 3) == 3


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_what_was_made_is_undone(end: Callable[[], None], tmp_path: Path) -> None:
    def work() -> int:
        one, two = str(tmp_path / "one"), str(tmp_path / "one/two")
        # What is made last is undone first, also where something cannot be undone.
        with owned(make, remove, one), owned(make, remove, two), owned(named, fail, "nowhere"):
            assert os.path.isdir(two)
            end()
        return 0

    with pytest.raises(EndedError):
        run_in_child(work)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_result_stays(end: Callable[[], None], tmp_path: Path) -> None:
    """After it is visible a signal is too late: it all is there."""

    def work() -> int:
        with owned(make, remove, str(tmp_path / "part")) as part:
            commit(publish, part.result, str(tmp_path / "whole"))
            if end is end_parent:
                os.kill(os.getppid(), signal.SIGTERM)
                # The rest of the work is done, too.
                commit(publish, str(tmp_path / "whole"), str(tmp_path / "more"))
                return 3
            end()
        return 0

    assert run_in_child(work) == (3 if end is end_parent else 0)
    assert [path.name for path in tmp_path.iterdir()] == ["more" if end is end_parent else "whole"]


def test_a_result_stays_though_nobody_hears_of_it() -> None:
    def work() -> int:
        commit(end, os.getpid())
        return 3

    assert run_in_child(work) == 0


@pytest.mark.parametrize("end", [*ENDS.values(), None], ids=[*ENDS, "nothing"])
def test_what_is_kept_stays(end: Callable[[], None] | None, tmp_path: Path) -> None:
    def work() -> int:
        with owned(make, remove, str(tmp_path / "kept")) as kept:
            kept.keep()
            if end is end_child:
                end()
        return 0

    assert run_in_child(work) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("kind", ["ours", "/some/where"])
def test_errors_of_the_parent_are_those_of_the_child(kind: str) -> None:
    def work() -> int:
        try:
            commit(fail, kind)
        except RunError as error:
            return 0 if (error.message, error.hint, kind) == ("it broke", "mend it", "ours") else 1
        except FileNotFoundError as error:
            return 0 if (error.errno, error.filename) == (2, kind) else 1
        return 1

    assert run_in_child(work) == 0


def test_descriptors_are_handed_over(tmp_path: Path) -> None:
    def work() -> int:
        read, out = os.pipe()
        os.write(out, CONTENT)
        os.close(out)
        commit(write, str(tmp_path / "copy"), descriptors=[read])
        return 0

    assert run_in_child(work) == 0
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_long_messages(tmp_path: Path) -> None:
    """A receipt may have a thousand layers."""
    name = str(tmp_path / "x") + "/." * 200_000

    def work() -> int:
        with pytest.raises(OSError, match="too long"):
            commit(fail_long, name)
        return 0

    assert run_in_child(work) == 0


def fail_long(name: str) -> None:
    """Raise what the system says of such a name."""
    os.stat(name)


def test_programs_end_with_it(tmp_path: Path) -> None:
    def work() -> int:
        with subprocess.Popen(["sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 1000"]):
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().endswith("\n"):
                pass
            end_parent()
        return 0

    with pytest.raises(EndedError):
        run_in_child(work)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_nothing_works_on_when_the_parent_is_killed() -> None:
    """The child ends with it; the kernel sees to that."""
    read, write = os.pipe()

    def work() -> int:
        os.write(write, b"%d" % os.getpid())
        os.kill(os.getppid(), signal.SIGKILL)
        while True:
            signal.pause()

    parent = os.fork()
    if parent == 0:
        try:
            run_in_child(work)
        finally:
            os._exit(1)
    os.close(write)
    child = int(os.read(read, 100))
    ended = bool(select.select([read], [], [], 60)[0])
    if not ended:
        os.kill(child, signal.SIGKILL)
    os.close(read)
    assert os.waitstatus_to_exitcode(os.waitpid(parent, 0)[1]) == -signal.SIGKILL
    # Who has guarded before adopts it; other tests look for children.
    with suppress(ChildProcessError):
        os.waitpid(child, 0)
    assert ended, "the child lives on"


def test_programs_that_nobody_waits_for_end_with_it(tmp_path: Path) -> None:
    def work() -> int:
        subprocess.Popen(["sh", "-c", f"sleep 30; : >{tmp_path}/late"])
        return 0

    assert run_in_child(work) == 0
    assert not (tmp_path / "late").exists()


@pytest.fixture
def ignored() -> Iterator[None]:
    """SIGHUP is, as nohup(1) has it; SIGINT does something of its own."""
    before = [signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGINT, lambda *_: None)]
    yield
    for number, handler in zip((signal.SIGHUP, signal.SIGINT), before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("ignored")
def test_signals_do_what_they_did_afterwards() -> None:
    before = [signal.getsignal(number) for number in STOPPING_SIGNALS]
    assert run_in_child(lambda: 0) == 0
    assert [signal.getsignal(number) for number in STOPPING_SIGNALS] == before


@pytest.mark.usefixtures("ignored")
def test_signals_that_are_ignored_stay_so() -> None:
    def work() -> int:
        os.kill(os.getppid(), signal.SIGHUP)
        commit(named, "x")
        os.kill(os.getpid(), signal.SIGHUP)
        return 3

    assert run_in_child(work) == 3


def test_the_terminal_does_not_stop_it() -> None:
    """It is in the background there."""
    wanted = (signal.SIGTTOU, signal.SIGTTIN)
    assert run_in_child(lambda: sum(signal.getsignal(number) != signal.SIG_IGN for number in wanted)) == 0


def test_without_a_child(tmp_path: Path) -> None:
    """The same calls work where nobody guards."""
    with owned(make, remove, str(tmp_path / "one")) as one:
        assert Path(one.result).is_dir()
    assert list(tmp_path.iterdir()) == []
    called: list[str] = []
    with undo_at_end(called.clear):
        called.append("x")
    assert called == []


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGTERM, "SIGTERM"), (signal.SIGRTMIN + 3, "SIGRTMIN+3"), (signal.SIGRTMAX, "SIGRTMAX")],
)
def test_name_of_a_signal(number: int, name: str) -> None:
    """Also of those that Python does not know."""
    assert str(EndedError(number)) == name
