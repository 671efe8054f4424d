"""Exit codes and the words of errors: what failed, the argument as typed, what to do."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_live.__main__ import main
from bootc_live.base.errors import SourceError


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The program takes signals over; the test run wants them back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Makes the verb `kargs` fail."""

    def fail(_arguments: object) -> int:
        raise error

    monkeypatch.setattr(importlib.import_module("bootc_live.cli.kargs"), "main", fail)


def test_done(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["kargs", "root=bootc-live:/root.oci rw"]) == 0
    said = capfd.readouterr()
    assert said.out == "set       root=bootc-live:/root.oci\nset       rw\n"
    assert said.err == ""


def test_three_parts(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["kargs", "bootc.live.etc.rw=maybe"]) == 1
    said = capfd.readouterr()
    assert said.out == ""
    first, second = said.err.splitlines()
    assert first.startswith("bootc-live: error: 'bootc.live.etc.rw=maybe' is not a boolean")
    assert second.startswith("bootc-live: what to do: correct the kernel command line")


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["inspect", "/nonexistent/root.oci"], "'/nonexistent/root.oci'"),
        (["inspect", "docker://a.b/OS"], "'docker://a.b/OS'"),
        (["inspect", "nowhere.oci"], "'nowhere.oci'"),
        (["inspect", "http://u:secret@/x.oci?y=secret"], "'http://***@/x.oci?***'"),
        (["boot", "--cmdline", "quiet"], "no root=bootc-live:"),
        (["boot", "--cmdline", "root=bootc-live:/x.oci bootc.kexec.remove=x"], "'bootc.kexec.remove=x'"),
        (["status", "--receipt", "/nonexistent/receipt.json"], "'/nonexistent/receipt.json'"),
        (["freeze", "/"], "zipapp"),
        (["freeze", "/", "wings"], "'wings'"),
    ],
)
def test_failures_name_what_was_typed(argv: list[str], shown: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 1
    first, second = capfd.readouterr().err.splitlines()
    assert first.startswith("bootc-live: error: ")
    assert shown in first
    assert second.startswith("bootc-live: what to do: ")


def test_a_defect_is_told_apart(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, ZeroDivisionError("division by zero"))
    assert main(["kargs"]) == 70
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "bootc-live: error: unexpected ZeroDivisionError: division by zero"
    assert "report" in lines[1]
    assert "Traceback" in lines[2]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGINT, "interrupted"),
        (signal.SIGTERM, "interrupted"),
        (signal.SIGHUP, "interrupted"),
        (signal.SIGQUIT, "interrupted"),
        (signal.SIGKILL, "the program was killed by signal 9 (SIGKILL); nothing was left behind"),
    ],
)
def test_interruption(
    number: signal.Signals,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def end(_arguments: object) -> int:
        # SIGKILL would take this test along.
        os.kill(os.getpid() if number == signal.SIGKILL else os.getppid(), number)
        while True:
            signal.pause()

    monkeypatch.setattr(importlib.import_module("bootc_live.cli.boot"), "main", end)
    assert main(["boot", "--cmdline", "x", "--errors-to", str(tmp_path / "log")]) == 1
    shown, _ = capfd.readouterr().err.splitlines()
    assert shown == f"bootc-live: error: {said}"
    assert (tmp_path / "log").read_text().splitlines()[0] == shown


@pytest.mark.parametrize("error", [SourceError("it broke", hint="mend it"), ZeroDivisionError("x")])
def test_every_error_goes_to_the_file(error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_arguments: object) -> int:
        raise error

    monkeypatch.setattr(importlib.import_module("bootc_live.cli.boot"), "main", fail)
    assert main(["boot", "--cmdline", "x", "--errors-to", str(tmp_path / "log")]) in (1, 70)
    first, second = (tmp_path / "log").read_text().splitlines()
    assert first.startswith("bootc-live: error: ")
    assert second.startswith("bootc-live: what to do: ")


def test_a_file_that_cannot_be_written_hides_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["boot", "--cmdline", "rw=x", "--errors-to", "/nonexistent/log"]) == 1
    said = capfd.readouterr().err
    assert "'rw=x' is not a boolean" in said
    assert "cannot write to '/nonexistent/log'" in said
    assert main(["boot", "--cmdline", "rw=x", "--errors-to", "/dev/full"]) == 1


@pytest.mark.parametrize(
    "argv", [[], ["nosuch"], ["pivot"], ["pivot", "a", "--no-keep-old-root"], ["build", "--nosuch"]]
)
def test_wrong_usage_is_a_failure(argv: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert "bootc-live" in capfd.readouterr().err
