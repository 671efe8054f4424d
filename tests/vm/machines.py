"""Machines on a disk from the inside: where their images come from, and what the program says in them."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from testinfra.host import Host

from tests.lib.registry import GUEST, Registry, registry
from tests.lib.tar_writer import file, layer
from tests.vm.images import stack
from tests.vm.installed import BOOT_SECONDS, InstalledDisk, machine_archive
from vmkit.base import Ready
from vmkit.paths import REPO

NAME: Final = "os/machine"
NEW: Final = layer(file("etc/new", "of the new image"), file("usr/share/new", "of the new image"))
BROKEN: Final = layer(file("usr/lib/systemd/systemd", "#!/bin/sh\necho this init exits\n", mode=0o755))


@dataclass(frozen=True)
class Vendor:
    """Where the machine's image comes from: a directory with its archive, and a registry with what follows."""

    directory: Path
    archive: Path
    registry: Registry
    base: str

    @property
    def source(self) -> str:
        """The image as guests call it."""
        return f"docker://{GUEST}:{self.registry.port}/{NAME}:latest"

    def publish(self, *layers: bytes) -> str:
        """Let the tag be the machine's image with more layers; return its digest."""
        return stack(self.registry, NAME, self.base, layers, "latest")


@pytest.fixture(scope="module")
def vendor() -> Iterator[Vendor]:
    # In the repository, which the builder root sees too.
    with tempfile.TemporaryDirectory(prefix="vm-tests-", dir=REPO / "build") as name:
        directory = Path(name)
        archive = machine_archive(directory)
        with registry(directory / "registry") as running:
            yield Vendor(
                directory,
                archive,
                running,
                running.push(f"oci-archive:{archive}", f"{NAME}:base", "--preserve-digests"),
            )


def told(host: Host, words: str, status: int = 0) -> dict[str, Any]:
    """What the program says as JSON."""
    done = host.run(f"bootc-live {words} --json")
    assert done.rc == status, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def without_bytes(found: dict[str, Any]) -> dict[str, Any]:
    """The same without what was fetched: manifests have various sizes."""
    return {name: value for name, value in found.items() if name != "fetched"}


def deployments(host: Host) -> list[dict[str, Any]]:
    """The deployments that the program lists, newest first."""
    rows: list[dict[str, Any]] = told(host, "status")["disk"]["deployments"]
    return rows


def health(host: Host) -> dict[int, str]:
    """What it thinks of them."""
    return {row["number"]: row["health"] for row in deployments(host)}


def names(disk: InstalledDisk) -> list[str]:
    return [str(name).removeprefix("bootc-live-") for name in disk.entries()]


def image(ready: Ready) -> str:
    return str((ready.receipt or {})["image"]["manifest_digest"])


def switched(host: Host, source: str, new: str) -> None:
    """Let the first deployment follow a registry, and change files before and after that."""
    assert health(host) == {1: "good"}
    host.check_output("echo mine >/etc/mine && echo edited >>/etc/issue && echo kept >/var/lib/mine")
    assert told(host, f"switch {source} --unsecure")["deployment"] == 2
    assert without_bytes(told(host, "upgrade")) == {"image": new, "newer": False, "deployment": None}
    host.check_output("echo late >/etc/late")


def goes_on(host: Host, number: int, words: str = "upgrade --soft-reboot") -> None:
    """Let the machine go on in what boots next, without its firmware; wait until that is up."""
    ask = "cat /proc/sys/kernel/random/boot_id && systemctl show --property=UserspaceTimestamp"
    before = host.check_output(ask)
    done = host.run(f"bootc-live {words}")
    assert done.rc == 0, done.stderr
    deadline, now = time.monotonic() + BOOT_SECONDS, ""
    while not now:
        assert time.monotonic() < deadline
        time.sleep(0.5)
        # Nobody answers in between.
        with suppress(RuntimeError):
            found = host.run(f"{ask} && systemctl is-system-running")
            now = found.stdout if found.rc == 0 and not found.stdout.startswith(before) else ""
    assert (now.split()[0] == before.split()[0]) == ("--soft-reboot" in words)
    assert [row["number"] for row in deployments(host) if row["booted"]] == [number]
    assert host.run("findmnt /run/nextroot").rc != 0


def changes_are_kept(host: Host) -> None:
    assert host.check_output("cat /etc/new /usr/share/new") == "of the new image" * 2
    assert host.check_output("cat /etc/mine /etc/late /var/lib/mine") == "mine\nlate\nkept"
    assert host.check_output("tail -n 1 /etc/issue") == "edited"


def rolled_back(host: Host, left: int) -> None:
    assert health(host) == {2: f"{left} tries left", 1: "good"}
    assert told(host, "health") == {"deployment": 2, "health": "good"}
    assert told(host, "rollback")["deployment"] == 1
