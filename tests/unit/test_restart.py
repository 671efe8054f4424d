"""Restarting into what boots next: when, by what, and with which files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

import pytest

from bootc_live.base.errors import LandingError
from bootc_live.base.log import Recorder
from bootc_live.cli.disk import restart
from bootc_live.formats.boot_entry import Entry, EntryName
from bootc_live.landing.disk.boot_partition.type1 import SystemdBoot
from bootc_live.landing.disk.deployments import Deployments
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.disk.settings import Settings
from tests.unit.boot_partitions import add

DONE: Final[dict[str, list[str]]] = {
    "apply": ["systemctl reboot"],
    "kexec": ["load", "count 2", "stop", "unload"],
    "soft-reboot": ["compare", "try", "request 2"],
    "neither": [],
}
# How much of it while the disk is in use.
IN_USE: Final = {"apply": 0, "kexec": 2, "soft-reboot": 2, "neither": 0}


class OneEntry(SystemdBoot):
    """A boot loader that starts one thing next."""

    def __init__(self, initrd: str = "/bootc-live/x/initrd") -> None:
        self.entry = Entry(EntryName(7, 2, 3), "os", "root=x quiet", "/bootc-live/x/vmlinuz", initrd)

    def default(self, boot: str) -> Entry:  # noqa: ARG002
        """Return it."""
        return self.entry

    said: ClassVar[list[str]]

    def count(self, boot: str, deployment: int) -> None:
        """Only say so."""
        assert boot == "/boot"
        self.said.append(f"count {deployment}")


class Full(OneEntry):
    """Its partition is full."""

    def count(self, boot: str, deployment: int) -> None:
        """Fail."""
        super().count(boot, deployment)
        raise LandingError("the boot partition is full", hint="none")


def machine(booted: int, loader: SystemdBoot) -> Machine:
    """A machine that runs a deployment."""
    return Machine(
        Deployments("/disk"), "/boot", Settings("/a.oci", "UUID=1", "UUID=2", "systemd-boot"), loader, booted
    )


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in its order."""
    said: list[str] = []
    monkeypatch.setattr(OneEntry, "said", said, raising=False)

    @contextmanager
    def loaded(kernel: str, initrd: str, cmdline: str, after_read: Callable[[], None]) -> Iterator[str]:
        after_read()
        assert (kernel, initrd, cmdline) == ("/boot/bootc-live/x/vmlinuz", "/boot/bootc-live/x/initrd", "root=x quiet")
        said.append("load")
        try:
            yield "kexec_file_load"
        finally:
            said.append("unload")

    monkeypatch.setattr(restart, "loaded_kernel", loaded)
    monkeypatch.setattr(restart, "check_able", lambda *_: None)
    monkeypatch.setattr(restart, "check_possible", lambda: None)
    monkeypatch.setattr(restart, "check_kernel", lambda *_: said.append("compare"))
    monkeypatch.setattr(restart.Restart, "_warn_of_arguments", lambda *_: None)
    monkeypatch.setattr(restart, "mount_next_root", lambda *_, dry_run: said.append("try" if dry_run else "do"))

    def commit(function: Callable[..., object], *arguments: object) -> None:
        said.append(" ".join([function.__name__.partition("_")[0], *map(str, arguments)]))

    monkeypatch.setattr(restart, "commit", commit)
    monkeypatch.setattr(restart, "keep_loaded", lambda: None)
    monkeypatch.setattr(restart, "run", lambda argv, hint: said.append(" ".join(argv)))  # noqa: ARG005
    return said


def options(way: str) -> argparse.Namespace:
    """The options of a verb."""
    return argparse.Namespace(apply=way == "apply", kexec=way == "kexec", soft_reboot=way == "soft-reboot", disk=None)


@pytest.mark.parametrize("way", DONE)
def test_after_the_block(way: str, done: list[str]) -> None:
    with restart.restarting(options(way), Recorder()) as after:
        after.prepare(machine(1, OneEntry()), "/work")
        assert done == DONE[way][: IN_USE[way]], "the disk is still in use"
    assert done == DONE[way]


@pytest.mark.parametrize("way", DONE)
def test_what_runs_already(way: str, done: list[str]) -> None:
    with restart.restarting(options(way), Recorder()) as after:
        after.prepare(machine(2, OneEntry()), "/work")
    assert not done


def test_not_after_a_failure(done: list[str]) -> None:
    def work() -> None:
        with restart.restarting(options("apply"), Recorder()) as after:
            after.prepare(machine(1, OneEntry()), "/work")
            raise LandingError("no", hint="none")

    with pytest.raises(LandingError, match="no"):
        work()
    assert not done


def test_what_is_refused_is_said_after_the_result(done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What boots next does so all the same."""

    def other(*_: object) -> None:
        raise LandingError("another kernel", hint="none")

    def work() -> None:
        with restart.restarting(options("soft-reboot"), Recorder()) as after:
            after.prepare(machine(1, OneEntry()), "/work")
            done.append("result")

    monkeypatch.setattr(restart, "check_kernel", other)
    with pytest.raises(LandingError, match="another kernel"):
        work()
    assert done == ["result"]


def test_no_start_that_is_not_counted(done: list[str]) -> None:
    def work() -> None:
        with restart.restarting(options("kexec"), Recorder()) as after:
            after.prepare(machine(1, Full()), "/work")

    with pytest.raises(LandingError, match="is full"):
        work()
    assert done == ["load", "count 2", "unload"]


def test_unified_kernel_image(done: list[str]) -> None:
    def work() -> None:
        with restart.restarting(options("kexec"), Recorder()) as after:
            after.prepare(machine(1, OneEntry(initrd="")), "/work")

    with pytest.raises(LandingError, match="unified kernel image"):
        work()
    assert not done


def test_files_of_real_entries(tmp_path: Path) -> None:
    """Where entries say that kernel and initrd are, below the boot partition, they are."""
    boot = tmp_path / "boot"
    boot.mkdir()
    entry = add(SystemdBoot(), boot, tmp_path, order=1, deployment=1, files=1)
    for path in (entry.kernel, entry.initrd):
        assert Path(f"{boot}{path}").is_file()
