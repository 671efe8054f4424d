"""``guest run-parts``: programs run where run-parts does, also those that the kernel would not start."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.program import Program

SECONDS = 120


@pytest.fixture
def noexec(tmp_path: Path) -> Iterator[Path]:
    """A directory from which the kernel starts nothing."""
    place = tmp_path / "noexec"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "test", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def write(directory: Path, name: str, body: str, mode: int = 0o755) -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh -e\n{body}\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o755, 0o644, 0o000])
def test_no_execution(program: Program, noexec: Path, mode: int) -> None:
    write(noexec, "10-first", 'echo "$0 $*"', mode)
    write(noexec, "20-second", "echo $-", mode)
    with pytest.raises(PermissionError):
        subprocess.run([noexec / "10-first"], check=False)
    ended = program.run("guest", "run-parts", "--arg", "a b", "--arg=-c", noexec).good()
    first, second = ended.stdout.splitlines()
    assert first == f"{noexec}/10-first a b -c"
    assert "e" in second


@pytest.mark.parametrize("mode", [0o755, 0o644])
def test_a_program_on_noexec_is_no_script(program: Program, noexec: Path, mode: int) -> None:
    (noexec / "true").write_bytes(Path("/usr/bin/true").read_bytes())
    (noexec / "true").chmod(mode)
    program.run("guest", "run-parts", noexec).error(f"'{noexec}/true'", "not executable")


def test_failure(program: Program, tmp_path: Path) -> None:
    write(tmp_path, "10", "echo one")
    write(tmp_path, "20", "echo two >&2; exit 42")
    write(tmp_path, "30", "echo three")
    (tmp_path / "05~").touch()
    ended = program.run("guest", "run-parts", tmp_path)
    assert (ended.status, ended.stdout) == (42, "one\n")
    assert ended.stderr.splitlines() == [
        f"bootc-live: skipped, by its name: '{tmp_path}/05~'",
        "two",
        f"bootc-live: error: '{tmp_path}/20' exited with 42",
        "bootc-live: what to do: see what it printed above; what comes after it was not run",
    ]


def test_nothing_to_run(program: Program, tmp_path: Path) -> None:
    assert program.run("guest", "run-parts", tmp_path).good().stdout == ""
    program.run("guest", "run-parts", tmp_path / "none").error(f"'{tmp_path}/none'")


def test_what_it_mounts_stays(program: Program, spawned: Program, tmp_path: Path) -> None:
    """Also by the other tools, which it may call."""
    for name in ("parts", "root", "layer", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "layer/file").touch()
    tool = f"/usr/bin/python3 {spawned.zipapp} guest"
    write(tmp_path / "parts", "10", f"mount -t tmpfs test {tmp_path}/other")
    write(tmp_path / "parts", "20", f"{tool} overlay --path {tmp_path}/root --volatile {tmp_path}/layer")
    program.run("guest", "run-parts", tmp_path / "parts").good()
    assert (tmp_path / "root/file").exists()
    for name in ("other", "root"):
        subprocess.run(["umount", tmp_path / name], check=True)


def test_environment_and_input(zipapp: Path, tmp_path: Path) -> None:
    part = write(tmp_path, "part", 'read -r line; echo "$line $GIVEN $PWD"')
    done = subprocess.run(
        ["python3", zipapp, "guest", "run-parts", part],
        input="typed\n",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "GIVEN": "given"},
    )
    assert done.stdout == f"typed given {tmp_path}\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 1), (signal.SIGKILL, -signal.SIGKILL)])
def test_its_end_is_that_of_the_program(spawned: Program, tmp_path: Path, number: signal.Signals, status: int) -> None:
    alive, log = tmp_path / "alive", tmp_path / "log"
    write(tmp_path, "part", f"echo $$ >{alive}.new; mv {alive}.new {alive}; exec sleep 10000")
    with spawned.started("guest", "run-parts", tmp_path / "part", log=log) as process:
        _soon(alive)
        process.send_signal(number)
        assert process.wait(SECONDS) == status
    deadline = time.monotonic() + SECONDS
    # As init of these namespaces, this process would have to reap it.
    while (Path("/proc") / alive.read_text().strip() / "exe").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _soon(path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
