"""Machines that follow a pointer: installed, asked, upgraded, finished and judged, on file systems in files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.lib.archive_servers import ArchiveServer, Files, archive_server
from tests.lib.boot_images import ALL, boot_image, initramfs, kernel_layer
from tests.lib.disks import loop, mounted, run
from tests.lib.oci_writer import write_archive
from tests.lib.program import Ended, Program
from tests.lib.tar_writer import directory, file, layer

UNITS: Final = Path(__file__).resolve().parents[2] / "systemd"
NEWER: Final = 77
LEFT: Final = 4
_SYSTEM: Final = "usr/lib/systemd/system"


def image(number: int, units: bool = True) -> Any:
    """An image that says its number in /etc, and has our units and a service."""
    names = [path for path in sorted(UNITS.iterdir()) if units]
    members = [directory(f"{_SYSTEM[:end]}/") for end in (3, 7, 15, 22)]
    members += [file(f"{_SYSTEM}/{path.name}", path.read_text()) for path in names]
    members += [file(f"{_SYSTEM}/web@.service", "[Service]\nExecStart=true\n")]
    etc = layer(directory("etc/"), file("etc/number", f"{number}\n"), file("etc/same", "same\n"))
    return boot_image(kernel_layer(initramfs(*ALL)), layer(*members), etc)


@dataclass(frozen=True)
class Machine:
    """A machine that does not run: the file systems of its disk, and what machines are upgraded from."""

    program: Program
    disk: Path
    boot: Path
    published: Path
    server: ArchiveServer

    def publish(self, number: int) -> str:
        """Publish an image; return its digest."""
        archive = write_archive(self.published.parent / "next.oci", image(number))
        ended = self.program.run("publish", archive, self.published, "--json").good()
        return str(json.loads(ended.stdout)["digest"])

    def run(self, verb: str, *options: str) -> Ended:
        """Run a verb for the machine."""
        return self.program.run(verb, "--disk", self.disk, "--boot", self.boot, *options)

    def install(self, *options: str) -> Ended:
        """Install from the pointer."""
        where = ("install", "to-filesystem", self.disk, "--boot", self.boot)
        return self.program.run(*where, "--source", self.server.url("/latest.json"), *options)

    def asked(self) -> list[str]:
        """The paths that the server was asked for since the last call."""
        paths = [asked.path for asked in self.server.asked]
        self.server.asked.clear()
        return paths

    def etc(self, number: int) -> Path:
        """The /etc of a deployment."""
        return self.disk / f"bootc-live/deployments/{number}/etc"


def result(ended: Ended) -> dict[str, Any]:
    """What an upgrade says, but for how much it fetched."""
    said: dict[str, Any] = json.loads(ended.stdout)
    del said["fetched"]
    return said


@contextmanager
def file_system(image: Path, size: int) -> Iterator[Path]:
    """A new ext4, mounted."""
    with image.open("wb") as new:
        new.truncate(size)
    run("mke2fs", "-q", "-t", "ext4", image)
    with loop(image) as device, mounted(device, image.with_suffix(".mounted")) as where:
        yield where


@pytest.fixture
def machine(program: Program, tmp_path: Path) -> Iterator[Machine]:
    with (
        file_system(tmp_path / "root.img", 2**28) as disk,
        file_system(tmp_path / "boot.img", 2**26) as boot,
        archive_server(Files(tmp_path / "published")) as server,
    ):
        yield Machine(program, disk, boot, tmp_path / "published", server)


def test_follows_a_pointer(machine: Machine) -> None:
    """What is newer is known by the pointer alone; what is fetched is what it names."""
    first = machine.publish(1)
    machine.install().good()
    assert json.loads((machine.disk / "bootc-live/machine.json").read_text())["source"].endswith("/latest.json")
    machine.asked()
    ended = machine.run("upgrade", "--check", "--json").good()
    assert result(ended) == {"image": first, "newer": False, "deployment": None}
    assert "no change" in machine.run("upgrade").good().stdout
    second = machine.publish(2)
    ended = machine.run("upgrade", "--check", "--json")
    assert (ended.status, json.loads(ended.stdout)["image"]) == (NEWER, second)
    assert set(machine.asked()) == {"/latest.json"}, "no archive is fetched to know that"
    (machine.etc(1) / "mine").write_text("mine\n")
    ended = machine.run("upgrade", "--json").good()
    assert result(ended) == {"image": second, "newer": True, "deployment": 2}
    asked = machine.asked()
    assert asked.count("/latest.json") == 1, "another upload must not be in between"
    assert set(asked) == {"/latest.json", f"/{second.removeprefix('sha256:')}.oci"}
    assert (machine.etc(2) / "number").read_text() == "2\n"
    assert (machine.etc(2) / "mine").read_text() == "mine\n"
    status = json.loads(machine.run("status", "--json").good().stdout)
    newest = status["deployments"][0] if "deployments" in status else status["disk"]["deployments"][0]
    assert newest["image"] == second
    assert newest["source"].endswith("/latest.json")
    assert newest["health"] == "3 tries left"


def test_secrets_of_a_source(machine: Machine) -> None:
    """They are used by upgrades, and shown to nobody."""
    machine.publish(1)
    source = machine.server.url("/latest.json?token=hidden", login="me:hidden")
    machine.program.run("install", "to-filesystem", machine.disk, "--boot", machine.boot, "--source", source).good()
    machine.server.asked.clear()
    machine.run("upgrade", "--check").good()
    (asked,) = machine.server.asked
    assert asked.path == "/latest.json?token=hidden"
    assert asked.header("Authorization")
    said = machine.run("status").good()
    assert "latest.json" in said.stdout
    assert "hidden" not in said.stdout
    assert "hidden" not in "".join(path.read_text() for path in (machine.boot / "loader/entries").iterdir())


def test_repaired_from_older_archives(machine: Machine) -> None:
    """The pointer names a newer one; that of the deployment is still beside it, and the login counts for it, too."""
    first = machine.publish(1)
    source = machine.server.url("/latest.json", login="me:hidden")
    machine.program.run("install", "to-filesystem", machine.disk, "--boot", machine.boot, "--source", source).good()
    machine.publish(2)
    for path in (machine.disk / "bootc-live/images").iterdir():
        path.unlink()
    assert machine.run("fsck").status == LEFT
    machine.server.asked.clear()
    assert "repaired: /bootc-live/images/" in machine.run("fsck", "--repair").good().stdout
    assert {asked.path for asked in machine.server.asked} == {f"/{first.removeprefix('sha256:')}.oci"}
    assert all(asked.header("Authorization") for asked in machine.server.asked)
    machine.run("verify").good()


def test_download_only(machine: Machine) -> None:
    """What was fetched before is not fetched again, and nothing else boots."""
    machine.publish(1)
    machine.install().good()
    second = machine.publish(2)
    before = sorted(path.name for path in (machine.boot / "loader/entries").iterdir())
    assert "not what boots next" in machine.run("upgrade", "--download-only").good().stdout
    assert sorted(path.name for path in (machine.boot / "loader/entries").iterdir()) == before
    assert not machine.etc(2).exists()
    sent = machine.server.sent
    assert json.loads(machine.run("upgrade", "--json").good().stdout)["deployment"] == 2
    size = (machine.published / f"{second.removeprefix('sha256:')}.oci").stat().st_size
    assert machine.server.sent - sent < size / 4, "layers are on the disk"


def test_units_of_a_new_machine(machine: Machine) -> None:
    """They are started: those that judge it, the timer if it was asked for, and what it is judged by."""
    machine.publish(1)
    ended = machine.install("--auto-update", "--success-unit", "web@1.service", "--success-unit", "none.service").good()
    assert "the image has no none.service" in ended.stderr
    assert "web@1.service" not in ended.stderr
    system = machine.etc(1) / "systemd/system"
    links = {path.relative_to(system): os.readlink(path) for path in system.glob("*.*/*") if path.is_symlink()}
    for link, target in links.items():
        assert target == f"/{_SYSTEM}/{link.name}"
    asking = {f"{path.name} {line}" for path in UNITS.iterdir() for line in path.read_text().splitlines()}
    wanted = {
        f"{link.name} {'Wanted' if link.parent.suffix == '.wants' else 'Required'}By={link.parent.stem}"
        for link in links
    }
    assert len(wanted) == 5
    assert wanted <= asking, "as their [Install] sections say"
    drop_in = (system / "bootc-live-health.target.d/50-success-units.conf").read_text()
    assert drop_in == "[Unit]\nRequires=web@1.service none.service\nAfter=web@1.service none.service\n"
    preset = machine.etc(1) / "systemd/system-preset/10-bootc-live.preset"
    assert set(preset.read_text().splitlines()) == {f"enable {link.name}" for link in links}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--auto-update",), "has no bootc-live-update.timer, which --auto-update needs"),
        (("--success-unit", "web@1.service"), "has no bootc-live-health.target, which --success-unit needs"),
        (("--success-unit", "web"), "--success-unit 'web' is not the name of a unit"),
        (("--success-unit", "a.service b.service"), "is not the name of a unit"),
        (("--success-unit", "%i.service"), "is not the name of a unit"),
    ],
)
def test_units_that_cannot_be(machine: Machine, options: tuple[str, ...], said: str) -> None:
    archive = write_archive(machine.published.parent / "next.oci", image(1, units=False))
    machine.program.run("publish", archive, machine.published).good()
    machine.install(*options).error(said)
    assert not (machine.boot / "loader/entries").exists() or not [*(machine.boot / "loader/entries").iterdir()]


def test_without_units(machine: Machine) -> None:
    """What nobody will call good is said at once."""
    archive = write_archive(machine.published.parent / "next.oci", image(1, units=False))
    machine.program.run("publish", archive, machine.published).good()
    assert "bootc-live-health.service is missing in the image, or not enabled" in machine.install().good().stderr
    assert not (machine.etc(1) / "systemd").exists()


def test_failed_health(machine: Machine) -> None:
    """Only a deployment on trial is left, and only for another one."""
    machine.publish(1)
    machine.install().good()
    assert "the boot loader stays with it" in machine.run("health", "--failed").good().stdout
    machine.publish(2)
    machine.run("upgrade").good()
    ended = machine.run("health", "--failed")
    ended.error("another system than the running one cannot be rebooted")
    assert "deployment 2 has failed\n" in ended.stdout
    machine.run("health").good()
    assert "the boot loader stays with it" in machine.run("health", "--failed").good().stdout


def test_given_up(machine: Machine) -> None:
    """The timer does not try an image again that the boot loader has given up; it takes the next one."""
    machine.publish(1)
    machine.install().good()
    second = machine.publish(2)
    machine.run("upgrade").good()
    (entry,) = (machine.boot / "loader/entries").glob("*+3.conf")
    entry.rename(entry.with_name(entry.name.replace("+3", "+0-3")))
    for options in ((), ("--check",), ("--download-only",)):
        assert f"no change: {second} has failed to boot" in machine.run("upgrade", *options).good().stdout
    third = machine.publish(3)
    ended = machine.run("upgrade", "--json").good()
    assert result(ended) == {"image": third, "newer": True, "deployment": 3}


@pytest.mark.parametrize("option", ["--apply", "--kexec"])
@pytest.mark.parametrize("verb", ["upgrade", "rollback"])
def test_other_systems_are_not_restarted(program: Program, verb: str, option: str, tmp_path: Path) -> None:
    """It is refused before anything is looked at."""
    ended = program.run(verb, "--disk", tmp_path, "--boot", tmp_path, option)
    ended.error("another system than the running one cannot be restarted")
