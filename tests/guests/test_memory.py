"""How small a machine can be for each layout, and how long it takes to boot beside one that has the tree on a disk."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.lib.bench import Figures
from tests.lib.bench_search import smallest
from vmkit.guest import Guest, GuestError, Ready
from vmkit.paths import OUT, ZIPAPP

FAILING: Final = "rd.shell=0 rd.emergency=poweroff"
SECONDS: Final = 300
STEP: Final = 16
LOW, HIGH = 192, 1024
ADMISSION: Final = "does not fit into memory"
# What a machine says that ran out of memory instead of being told before.
BROKEN: Final = ("Out of memory", "oom-kill", "Kernel panic", "No space left", "Traceback")


@dataclass(frozen=True)
class Way:
    """Kernel arguments, and what `bootc-live estimate` calls the way."""

    name: str
    kargs: str

    def __str__(self) -> str:
        """The name, which is the test's."""
        return self.name


WAYS: Final = (
    Way("index", "bootc.live.layout=index"),
    Way("erofs lz4", "bootc.live.layout=erofs bootc.live.compress=lz4"),
    Way("index on zram", "bootc.live.layout=index bootc.zram=512M"),
    Way("tree", "bootc.live.layout=tree"),
)


@dataclass
class Trials:
    """Boots of one way with different amounts of memory, in MiB."""

    append: str
    ready: dict[int, Ready] = field(default_factory=dict)
    consoles: dict[int, str] = field(default_factory=dict)

    def boots(self, memory: int) -> bool:
        """Whether a guest with so much memory reaches its default target; raises GuestError for one that hangs."""
        with Guest(kernel=OUT / "vmlinuz", initrds=[OUT / "initrd.img"], append=self.append, memory=memory) as guest:
            try:
                self.ready[memory] = guest.wait_ready(SECONDS)
            except GuestError as error:
                self.consoles[memory] = guest.console()
                if "was not ready within" in str(error):
                    raise
                print(f"{memory} MiB: does not boot", flush=True)
                return False
        print(f"{memory} MiB: boots in {self.ready[memory].seconds:.0f} s", flush=True)
        return True


@pytest.fixture(scope="module")
def estimates() -> dict[str, int]:
    """The size of machine in MiB that each way is estimated to need."""
    done = subprocess.run(
        [sys.executable, ZIPAPP, "estimate", "--json", OUT / "live.oci"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    return machines(json.loads(done.stdout))


def machines(told: dict[str, Any]) -> dict[str, int]:
    """The MiB that a machine should have, by the name of the way."""
    return {name: way["machine"] // 2**20 for name, way in told["layouts"].items()}


@pytest.fixture(scope="module")
def on_disk(disk: Path, figures: Figures) -> Ready:
    """The same tree booted from a virtio disk: the best of two boots."""
    drive = f"file={disk},format=raw,if=virtio,snapshot=on"
    readies = [boot_disk(drive) for _ in range(2)]
    best = min(readies, key=lambda ready: ready.seconds)
    figures.add(f"guest with the tree on a virtio disk (ext4): ready after {best.seconds:.1f} s")
    return best


def boot_disk(drive: str) -> Ready:
    """One boot from the disk."""
    with Guest(
        kernel=OUT / "vmlinuz",
        initrds=[OUT / "initrd.img"],
        append=f"{FAILING} root=/dev/vda rootfstype=ext4 rw",
        memory=HIGH,
        extra=["-drive", drive],
    ) as guest:
        return guest.wait_ready(SECONDS)


def test_the_smallest_machine(source: str, estimates: dict[str, int], on_disk: Ready, figures: Figures) -> None:
    rows, wrong = [], []
    for way in WAYS:
        trials = Trials(f"{FAILING} root=bootc-live:{source} bootc.registry.unsecure {way.kargs}")
        assert trials.boots(HIGH), f"{way} does not even boot in {HIGH} MiB:\n{trials.consoles[HIGH][-3000:]}"
        found = smallest(trials.boots, estimates[way.name], STEP, LOW, HIGH)
        rows.append(row(way, found, estimates[way.name], trials, on_disk))
        wrong += complaints(way, found - STEP, trials)
    head = (
        "way",
        "smallest, MiB",
        "estimated",
        "needs, phases s",
        "ready s, 1 GiB",
        "× disk",
        "ready s, smallest",
        "peak MiB",
    )
    figures.table("smallest machine for the live image, by registry", head, rows)
    assert not wrong, "\n".join(wrong)


def row(way: Way, found: int, estimated: int, trials: Trials, on_disk: Ready) -> Sequence[object]:
    """A line of the table."""
    roomy = trials.ready[HIGH]
    receipt = roomy.receipt or {}
    return (
        way.name,
        found,
        estimated,
        round(sum(receipt["phases"].values()), 1),
        round(roomy.seconds, 1),
        roomy.seconds / on_disk.seconds,
        round(trials.ready[found].seconds, 1),
        receipt["peak_memory"] // 2**20,
    )


def complaints(way: Way, below: int, trials: Trials) -> list[str]:
    """What is wrong with the boot one step below the smallest that does: it must say that memory does not do."""
    if below not in trials.consoles:
        trials.boots(below)
    console = trials.consoles[below]
    found = [word for word in BROKEN if word in console]
    if ADMISSION not in console:
        found.append(f"no {ADMISSION!r}")
    return [f"{way} in {below} MiB: {', '.join(found)}:\n{console[-2000:]}"] if found else []
