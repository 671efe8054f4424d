"""Exit codes and the words of errors: what failed, the argument as typed, what to do."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_live import __version__
from bootc_live.__main__ import main
from bootc_live.base.errors import SourceError
from bootc_live.config.cmdline.page import markdown
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The program takes signals over; the test run wants them back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    image = Image([Layer(layer(file("a", "x")))], architecture=HERE)
    return write_archive(tmp_path / "image.oci", image)


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


@pytest.mark.parametrize("argv", [[], ["fly"], ["boot"], ["inspect"], ["kargs", "a", "b"], ["--nonsense"]])
def test_wrong_usage(argv: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert "usage: bootc-live" in capfd.readouterr().err


@pytest.mark.parametrize("argv", [["--help"], *([verb, "--help"] for verb in ("boot", "inspect", "unpack", "kargs"))])
def test_help(argv: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 0
    assert capfd.readouterr().out.startswith("usage: bootc-live")


def test_help_names_every_verb(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capfd.readouterr().out
    for verb in ("boot", "inspect", "unpack", "kargs", "status", "freeze"):
        assert f"\n    {verb} " in said
    assert "docker://" in said


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capfd.readouterr().out == f"bootc-live {__version__}\n"


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


def test_errors_go_to_a_file_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    assert main(["boot", "--cmdline", "root=bootc-live:ftp://a.example/x", "--errors-to", str(log)]) == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if "error" in line or "what to do" in line]
    assert log.read_text().splitlines() == ["before", *errors]
    assert len(errors) == 2


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


def test_inspect(archive: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(archive.parent)
    assert main(["inspect", "image.oci"]) == 0
    said = capfd.readouterr().out
    assert "layers    1, 1 KiB to fetch" in said
    assert main(["inspect", str(archive), "--json"]) == 0
    assert '"manifest_digest": "sha256:' in capfd.readouterr().out


def test_kargs(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["kargs", "--markdown"]) == 0
    assert capfd.readouterr().out == markdown()
    assert main(["kargs"]) == 0
    assert "bootclabel (text) [latest]" in capfd.readouterr().out


def test_a_closed_pipe_is_no_defect(repo: Path) -> None:
    """As in `bootc-live kargs | head`: silence, not a traceback."""
    read, write = os.pipe()
    os.close(read)
    try:
        argv = [sys.executable, "-m", "bootc_live", "kargs"]
        done = subprocess.run(argv, cwd=repo / "pyapp", stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
