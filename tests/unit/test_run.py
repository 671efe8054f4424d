"""Processes: what they are given, what their failure says, and that none outlives its block."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bootc_live.base.errors import RunError
from bootc_live.system.cleanup.guard import EndedError, run_in_child
from bootc_live.system.run import await_end, environment, find_program, require_program, run, run_shown


def test_given_text_is_standard_input() -> None:
    assert run(["cat"], given="a\nb") == "a\nb"
    assert run(["cat"]) == ""


def test_output() -> None:
    assert run(["printf", "%s|", "a b", "$HOME", "*"]) == "a b|$HOME|*|"


def test_output_that_is_no_utf_8() -> None:
    assert run(["printf", "\\377x"]) == "\ufffdx"


def test_standard_input_is_empty() -> None:
    assert run(["cat"]) == ""


def test_environment_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("TMPDIR", "/somewhere")
    assert set(run(["env"]).split()) == {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL=C.UTF-8",
        "TMPDIR=/somewhere",
    }
    monkeypatch.delenv("TMPDIR")
    assert "TMPDIR" not in environment()


def test_working_directory(tmp_path: Path) -> None:
    assert run(["pwd", "-P"], cwd=str(tmp_path)) == f"{tmp_path.resolve()}\n"


def test_descriptors_are_not_inherited() -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        assert str(write) not in run(["ls", "/proc/self/fd"]).split()
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "sh exited with 3: no message"),
        ("echo out; echo why >&2; exit 1", "sh exited with 1: why"),
        ("printf 'two\\nlines\\n\\n' >&2; exit 2", "sh exited with 2: two\nlines"),
        ("kill -9 $$", "sh was killed by signal 9: no message"),
        ("printf '\\377' >&2; exit 1", "sh exited with 1: \ufffd"),
    ],
)
def test_failures(script: str, message: str) -> None:
    with pytest.raises(RunError) as caught:
        run(["sh", "-c", script], hint="do this")
    assert caught.value.message == message
    assert caught.value.hint == "do this"


def test_only_the_end_of_what_it_said() -> None:
    with pytest.raises(RunError) as caught:
        run(["sh", "-c", "seq 1 5000 >&2; exit 1"])
    said = caught.value.message.partition(": ")[2].splitlines()
    assert said[-1] == "5000"
    assert said == [str(number) for number in range(int(said[0]), 5001)]
    assert len(caught.value.message) < 700


def test_programs_that_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot start '/nonexistent/program': No such file or directory"):
        run(["/nonexistent/program"])
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(RunError, match="Permission denied"):
        run([str(script)])
    with pytest.raises(RunError, match="cannot start 'true'"):
        run(["true"], cwd="/nonexistent")


def test_finding_programs() -> None:
    assert find_program("sh") in ("/usr/bin/sh", "/bin/sh")
    assert find_program("no-such-program") is None


def test_own_path_is_searched_not_the_caller_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "no-such-program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program("no-such-program") is None
    assert find_program("sh") is not None


def test_required_programs() -> None:
    assert require_program("sh", "do things", "dash") == find_program("sh")
    with pytest.raises(RunError) as caught:
        require_program("no-such-program", "do things", "the-package")
    assert caught.value.message == "the program 'no-such-program' is missing; it is needed to do things"
    assert "install the-package" in caught.value.hint


def test_output_is_shown_as_it_comes(tmp_path: Path) -> None:
    """The program waits until its first line was seen."""
    pipe, lines = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)

    def show(line: str) -> None:
        lines.append(line)
        if line == "one":
            pipe.write_text("go on\n")

    run_shown(["sh", "-c", f"echo one; read x <{pipe}; echo two >&2; printf '\\377'"], show)
    assert lines == ["one", "two", "\ufffd"]


def test_failure_has_the_end_of_what_was_shown() -> None:
    lines: list[str] = []
    with pytest.raises(RunError) as caught:
        run_shown(["sh", "-c", "seq 1 5000; exit 3"], lines.append, hint="do this")
    assert len(lines) == 5000
    assert caught.value.message.startswith("sh exited with 3: ")
    assert caught.value.message.endswith("\n4999\n5000")
    assert len(caught.value.message) < 700
    assert caught.value.hint == "do this"
    with pytest.raises(RunError, match="cannot start '/nonexistent/program'"):
        run_shown(["/nonexistent/program"], lines.append)


def test_program_can_clean_up(tmp_path: Path) -> None:
    """It gets SIGTERM when nobody reads on, and is waited for."""
    ended = tmp_path / "ended"

    def fails(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="begun"):
        run_shown(["sh", "-c", f"trap 'sleep 0.2; touch {ended}; exit' TERM; echo begun; while :; do :; done"], fails)
    assert ended.exists()


def test_one_signal_reaches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told twice, a program may leave what it was about to remove: who waits for it sends no signal but SIGKILL."""
    monkeypatch.setattr("bootc_live.system.run._PATIENCE", 0.1)
    told, begun = tmp_path / "told", tmp_path / "begun"
    script = f"trap 'touch {told}' TERM; touch {begun}; while :; do sleep 0.05; done"
    with subprocess.Popen(["sh", "-c", script]) as process:
        while not begun.exists():
            time.sleep(0.01)
        await_end(process.pid)
    assert not told.exists()


def test_killed_parent_ends_it(tmp_path: Path) -> None:
    """Its signal comes from the kernel then."""
    told = tmp_path / "told"

    def work() -> int:
        script = "trap 'touch $0; exit' TERM; echo begun; while :; do sleep 0.05; done"
        run_shown(["sh", "-c", script, str(told)], lambda _: os.kill(os.getppid(), signal.SIGTERM))
        return 0

    with pytest.raises(EndedError):
        run_in_child(work)
    assert told.exists()


def test_program_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootc_live.system.run._PATIENCE", 0.1)

    def fails(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="begun"):
        run_shown(["sh", "-c", "trap '' TERM; echo begun; while :; do :; done"], fails)
