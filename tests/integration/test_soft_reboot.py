"""What a system does at its end for a soft reboot into the next deployment; tests/vm has all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.lib.disk_fixtures import one, ready, unchanged
from tests.lib.disk_machine import Machine, booted, disk_image, taken_for_booted
from tests.lib.disks import run
from tests.lib.forked_program import ForkedProgram

__all__ = ["one", "ready"]

RUN: Final = Path("/run/bootc-live")
NEXT: Final = Path("/run/nextroot")


@pytest.fixture
def running(one: Machine, tmp_path: Path) -> Iterator[Machine]:
    """The first deployment runs, in a /run of its own."""
    with ExitStack() as stack:
        run("mount", "-t", "tmpfs", "none", "/run")
        stack.callback(run, "umount", "/run")
        stack.enter_context(booted(1, one, tmp_path))
        yield one
        if NEXT.is_mount():
            run("umount", "-R", NEXT)


def asked(number: int) -> Path:
    """What ``upgrade --soft-reboot`` leaves for the end of the system."""
    request = RUN / "soft-reboot"
    RUN.mkdir(exist_ok=True)
    request.write_text(f"{number}\n")
    return request


def status(program: ForkedProgram) -> dict[int, tuple[bool, str]]:
    """Which deployments run, and what is thought of them."""
    rows = json.loads(program.run("status", "--json").good().stdout)["disk"]["deployments"]
    return {row["number"]: (row["booted"], row["health"]) for row in rows}


def test_next_root(running: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    running.offer(disk_image(2))
    program.run("upgrade").good()
    # It is tried before anything stops, and that does not count as a start: /etc is merged after it.
    entry = (running.boot / "loader/entries/bootc-live-2-2+3.conf").read_text()
    (cmdline,) = (line.removeprefix("options ") for line in entry.splitlines() if line.startswith("options "))
    program.run("boot", "--dry-run", "--cmdline", cmdline, "--sysroot", tmp_path).good()
    etc = running.deployments / "1/etc"
    (etc / "late").write_text("late\n")
    request = asked(2)
    program.run("upgrade", "--finalize").good()
    assert (NEXT / "usr/number").read_text() == "2\n" * 300
    assert [(NEXT / name).read_text() for name in ("etc/number", "etc/late")] == ["2\n", "late\n"]
    (NEXT / "var/lib/mine").write_text("mine\n")
    assert (running.disk / "var/lib/mine").read_text() == "mine\n"
    (NEXT / "etc/own").write_text("own\n")
    assert (running.deployments / "2/etc/own").read_text() == "own\n"
    # What the boot loader would have done, and the initramfs.
    assert running.entries == ["bootc-live-1-1", "bootc-live-2-2+2-1"]
    receipt = json.loads((RUN / "receipt.json").read_text())
    assert (receipt["deployment"]["number"], receipt["layout"]) == (2, "composefs")
    assert not request.exists()
    assert (running.deployments / "2/started").exists()
    # The kernel command line still names the first one.
    first = Path("/proc/cmdline").read_text().rstrip()
    (tmp_path / "next").mkdir()
    with taken_for_booted(2, first, tmp_path / "next"):
        assert status(program) == {2: (True, "2 tries left"), 1: (False, "good")}
        assert json.loads(program.run("health", "--json").good().stdout)["deployment"] == 2
        assert status(program) == {2: (True, "good"), 1: (False, "good")}
        # It was started, so it keeps its own /etc.
        program.run("rollback", "--to", "1").good()
        assert "nothing to do" in program.run("upgrade", "--finalize").good().stderr
    assert (NEXT / "etc/own").exists()


@pytest.mark.parametrize(
    ("number", "waits", "told"),
    [(2, True, "something is already mounted on '/run/nextroot'"), (1, False, ""), (3, False, "")],
    ids=["another root waits", "what runs", "what does not boot next"],
)
def test_nothing_is_prepared(number: int, waits: bool, told: str, running: Machine, program: ForkedProgram) -> None:
    """/etc is taken over all the same, and nothing is left of the request."""
    running.offer(disk_image(2))
    program.run("upgrade").good()
    (running.deployments / "1/etc/late").write_text("late\n")
    request = asked(number)
    if waits:
        NEXT.mkdir()
        run("mount", "-t", "tmpfs", "none", NEXT)
    ended = program.run("upgrade", "--finalize")
    assert (ended.status, told in ended.stderr) == (1 if told else 0, True), ended.stderr
    assert (running.deployments / "2/etc/late").read_text() == "late\n"
    assert not (NEXT / "etc").exists()
    assert running.entries == ["bootc-live-1-1", "bootc-live-2-2+3"]
    assert not request.exists()
    assert status_without_receipt(running, program) == 1


def status_without_receipt(running: Machine, program: ForkedProgram) -> int:
    """The deployment that the program takes for running."""
    assert not (RUN / "receipt.json").exists()
    program.run("health").good()
    return next(number for number in (1, 2) if f"bootc-live-{number}-{number}" in running.entries)


@pytest.mark.parametrize("words", [("upgrade",), ("switch", "{source}"), ("rollback",)])
def test_refused_before_anything_is_fetched(words: tuple[str, ...], running: Machine, program: ForkedProgram) -> None:
    running.offer(disk_image(2))
    command = [word.format(source=running.source) for word in words]
    with unchanged(running):
        program.run(*command, "--soft-reboot").error("'--soft-reboot' is not possible here: systemd does not run")
        program.run(*command, "--soft-reboot", *running.options).error("another system than the running one")
