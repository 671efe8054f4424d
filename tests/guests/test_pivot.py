"""How long a pivot takes until the new system's first process starts, beside a reboot of the same machine."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from testinfra.host import Host

from tests.lib.bench import Figures
from tests.lib.registry import GUEST, registry
from tests.vm.inside import connect
from tests.vm.kinds import own_kernel
from tests.vm.test_pivot import arrive, installed, machine_image
from vmkit.base import BaseGuest
from vmkit.paths import ZIPAPP

SECONDS: Final = 600
ROUNDS: Final = 3
NAME: Final = "os/machine:stable"


@pytest.fixture(scope="module")
def image(scratch: Path) -> Path:
    """What the machine is installed from, and pivots into."""
    return machine_image(scratch / "pivot")


@pytest.fixture(scope="module")
def source(scratch: Path, image: Path) -> Iterator[tuple[str, Path]]:
    """What the guest calls that image in a registry, and a cache that has its layers."""
    with registry(scratch / "pivot-registry") as running:
        running.push(f"oci-archive:{image}:latest", NAME)
        cache = scratch / "cache"
        argv = [sys.executable, str(ZIPAPP), "build", running.source(NAME), "--unsecure", "--cache", str(cache)]
        subprocess.run(argv, stdin=subprocess.DEVNULL, check=True)
        yield running.source(NAME, host=GUEST), cache


def started(host: Host) -> float:
    """When the first process of the root started, in seconds of this machine's monotonic clock."""
    now = time.monotonic()
    command = "cat /proc/uptime; systemctl show --value --property=UserspaceTimestampMonotonic"
    uptime, since = host.check_output(command).splitlines()
    return now - float(uptime.split()[0]) + int(since) / 1e6


def drop_caches(host: Host) -> None:
    host.check_output("sync && echo 3 >/proc/sys/vm/drop_caches")


def pivot(machine: BaseGuest, source: str) -> float:
    host = connect(machine)
    drop_caches(host)
    began = time.monotonic()
    host.check_output(f"bootc-live pivot {source} --unsecure --yes --cache /var/cache/bootc-live")
    return started(arrive(machine, "/run/bootc-live/pivoted")) - began


def test_time_until_the_new_first_process(image: Path, source: tuple[str, Path], figures: Figures) -> None:
    """The machine is on a disk, in the cheapest guest that has a kernel of its own; the cache has the layers.

    A reboot is the time until the guest has ended, and that from its start to the first process of its root: without
    firmware and boot loader, which real machines have.
    """
    rows = []
    for _ in range(ROUNDS):
        disk = image.with_name("disk")
        with installed(own_kernel(), image, disk, source[1]) as machine:
            ready = machine.wait_ready(SECONDS)
            began = time.monotonic() - ready.seconds
            boot = started(connect(machine)) - began
            taken = pivot(machine, source[0])
        with installed(own_kernel(), image, disk, source[1]) as machine:
            machine.wait_ready(SECONDS)
            host = connect(machine)
            drop_caches(host)
            began = time.monotonic()
            host.run("systemctl reboot")
            machine.wait_exit(SECONDS)
            rows.append((taken, time.monotonic() - began, boot))
    taken, down, boot = (statistics.median(column) for column in zip(*rows, strict=True))
    head = ("pivot, s", "shutdown, s", "boot, s", "of both")
    figures.table(f"pivot and reboot, {own_kernel()}", head, [(taken, down, boot, taken / (down + boot))])
    figures.bar("pivot with a warm cache, of a reboot", taken / (down + boot), 0.5, least=False)
