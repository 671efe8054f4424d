"""The kiosk of the page about disks: every command, in order, on a machine that boots what they made."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from testinfra.host import Host

from tests.lib.pages import Block, blocks
from tests.lib.registry import GUEST, registry
from tests.vm.inside import connect
from tests.vm.installed import BOOT_SECONDS, OFF_SECONDS, InstalledDisk, machine_archive, read_disk
from tests.vm.kinds import own_kernel
from tests.vm.shell import Shell, builder_shell
from vmkit.paths import REPO, VM, ZIPAPP

PAGE: Final = REPO / "docs" / "disk.md"
# podman needs a container runtime; machines are watched over another console.
PROGRAMS: Final = {
    "bootc-live": f"""[ "$1" != install ] || set -- "$@" --karg console=ttyS0
exec {ZIPAPP} "$@"
""",
    "podman": f"""[ "$1" != push ] || set -- push --quiet --tls-verify=false "$2" "docker://$REGISTRY/${{2#*/}}"
exec {VM}/buildah "$@"
""",
}
PREPARE: Final = """cp -r {registries}/. /
install {programs}/* /usr/local/bin/
cp -r systemd {directory}
cd {directory}
export REGISTRY={registry}
podman tag "$(podman pull --quiet oci-archive:machine.oci)" registry.example/os:stable
"""


def registries(where: Path, location: str) -> Path:
    """A tree with the settings by which a machine reaches the registry of the page."""
    file = where / "etc/bootc-live/registries.yaml"
    file.parent.mkdir(parents=True)
    settings = {"prefix": "registry.example", "location": location, "insecure": True}
    file.write_text(json.dumps({"registries": [settings]}))
    return where


def commands(page: list[Block], heading: str) -> list[str]:
    """The blocks below a heading."""
    found = [block.text for block in page if (block.heading, block.language) == (heading, "sh")]
    assert found, heading
    return found


@contextmanager
def boot(disk: InstalledDisk) -> Iterator[Host]:
    """Boot the machine; it ends by itself after the block."""
    with disk.started() as guest:
        ready = guest.wait_ready(BOOT_SECONDS)
        assert (ready.target, ready.failed) == ("multi-user.target", 0)
        yield connect(guest, lasting=True)
        guest.wait_exit(OFF_SECONDS)


def health(host: Host) -> dict[int, str]:
    """What the machine thinks of its deployments, once it has made up its mind about this boot."""
    host.check_output("systemctl start bootc-live-health.service")
    found = json.loads(host.check_output("bootc-live status --json"))["disk"]["deployments"]
    return {row["number"]: row["health"] for row in found}


def restart(host: Host, typed: str) -> None:
    """Run commands, the last of which restarts the machine."""
    before, _, last = typed.strip().rpartition("\n")
    assert last == "systemctl reboot"
    host.check_output(before)
    with suppress(RuntimeError):
        host.run(last)


def test_kiosk() -> None:
    page = blocks(PAGE.read_text())
    with tempfile.TemporaryDirectory(prefix="vm-tests-", dir=REPO / "build") as place, builder_shell() as shell:
        directory = Path(place)
        with registry(directory / "registry") as running:
            machine_archive(directory, registries(directory / "guest", f"{GUEST}:{running.port}"))
            workstation = registries(directory / "workstation", running.host)
            programs = directory / "programs"
            programs.mkdir()
            for name, script in PROGRAMS.items():
                (programs / name).write_text(f"#!/bin/sh\n{script}")
            shell.run(
                PREPARE.format(registries=workstation, programs=programs, directory=directory, registry=running.host)
            )
            life(page, shell, directory / "kiosk.img")


def life(page: list[Block], shell: Shell, file: Path) -> None:
    """Run what the page says from here on."""

    def build(heading: str) -> None:
        print(shell.run(commands(page, heading)[0]))

    build("The image and the disk")
    disk = read_disk(file, own_kernel(), "systemd-boot")
    with boot(disk) as host:
        (looks,) = commands(page, "The first boot")
        assert "bootc-live-update.timer" in host.check_output(looks)
        assert health(host) == {1: "good"}
        assert "the first version" in host.check_output("journalctl --unit kiosk")
        build("A good update")
        restart(host, commands(page, "A good update")[1])
    with boot(disk) as host:
        assert health(host) == {2: "good", 1: "good"}
        assert "the second version" in host.check_output("journalctl --unit kiosk")
        build("A bad update")
        restart(host, commands(page, "A bad update")[1])
    disk.count_to_last()
    disk.failed()
    with boot(disk) as host:
        assert health(host) == {3: "failed", 2: "good", 1: "good"}
        assert "3" in host.check_output(commands(page, "A bad update")[2])
        assert health(host) == {3: "failed", 2: "good", 1: "good"}
        build("The repair")
        restart(host, "systemctl start bootc-live-update.service\nsystemctl reboot")
    assert disk.entries()[0].deployment == 4
