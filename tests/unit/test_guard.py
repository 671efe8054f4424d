"""Work in a child: whatever ends it, what it had made is undone, unless its result is there as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_live.base.errors import RunError
from bootc_live.system.cleanup.guard import ENDING, EndedError, commit, guarded, made, undone

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
    assert guarded(lambda: 3) == 3


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_what_was_made_is_undone(end: Callable[[], None], tmp_path: Path) -> None:
    def work() -> int:
        with made(make, remove, str(tmp_path / "one")), made(make, remove, str(tmp_path / "two")):
            assert len(list(tmp_path.iterdir())) == 2
            end()
        return 0

    with pytest.raises(EndedError):
        guarded(work)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_result_stays(end: Callable[[], None], tmp_path: Path) -> None:
    """After it is visible a signal is too late: it all is there."""

    def work() -> int:
        with made(make, remove, str(tmp_path / "part")) as part:
            commit(publish, part.result, str(tmp_path / "whole"))
            if end is end_parent:
                os.kill(os.getppid(), signal.SIGTERM)
            else:
                end()
        return 0

    assert guarded(work) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize("end", [*ENDS.values(), None], ids=[*ENDS, "nothing"])
def test_what_is_kept_stays(end: Callable[[], None] | None, tmp_path: Path) -> None:
    def work() -> int:
        with made(make, remove, str(tmp_path / "kept")) as kept:
            kept.keep()
            if end is end_child:
                end()
        return 0

    assert guarded(work) == 0
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

    assert guarded(work) == 0


def test_descriptors_are_handed_over(tmp_path: Path) -> None:
    def work() -> int:
        read, out = os.pipe()
        os.write(out, CONTENT)
        os.close(out)
        commit(write, str(tmp_path / "copy"), descriptors=[read])
        return 0

    assert guarded(work) == 0
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_long_messages(tmp_path: Path) -> None:
    """A receipt may have a thousand layers."""
    name = str(tmp_path / "x") + "/." * 200_000

    def work() -> int:
        with pytest.raises(OSError, match="too long"):
            commit(fail_long, name)
        return 0

    assert guarded(work) == 0


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
        guarded(work)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_signals_do_what_they_did_afterwards() -> None:
    before = [signal.getsignal(number) for number in ENDING]
    assert guarded(lambda: 0) == 0
    assert [signal.getsignal(number) for number in ENDING] == before


def test_without_a_child(tmp_path: Path) -> None:
    """The same calls work where nobody guards."""
    with made(make, remove, str(tmp_path / "one")) as one:
        assert Path(one.result).is_dir()
    assert list(tmp_path.iterdir()) == []
    called: list[str] = []
    with undone(called.clear):
        called.append("x")
    assert called == []
