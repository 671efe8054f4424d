"""How small a machine can be for each layout, and how long it takes to boot, compared with the same tree on a disk."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.lib.bench import Figures
from tests.lib.bench_search import smallest
from vmkit.guest import Guest, GuestError, Ready
from vmkit.paths import OUT, ZIPAPP
from vmkit.start import Kernel

FAILING: Final = "rd.shell=0 rd.emergency=poweroff"
SECONDS: Final = 300
STEP: Final = 16
LOW, HIGH = 192, 1024
# Before anything is fetched; and, if that was partly a guess, when the image's file system is full.
REFUSED: Final = ("does not fit into memory", "no space left")
BROKEN: Final = ("Out of memory", "oom-kill", "Kernel panic", "No space left", "Traceback")

OPTIONS: Final = ("index", "erofs lz4", "index on zram", "tree")


@dataclass(frozen=True)
class StorageOption:
    """What `bootc-live estimate` says of an option: its name, kernel arguments, and MiB that a machine should have."""

    name: str
    kargs: str
    estimated: int


@dataclass
class Trials:
    """Boots of one option with different amounts of memory, in MiB."""

    append: str
    ready: dict[int, Ready] = field(default_factory=dict)
    consoles: dict[int, str] = field(default_factory=dict)

    def boots(self, memory: int) -> bool:
        """Whether a guest with so much memory reaches its default target; raises GuestError for one that hangs."""
        with Guest(Kernel(initrds=[OUT / "initrd.img"], append=self.append), memory=memory) as guest:
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
def options() -> list[StorageOption]:
    """The options that are measured."""
    command: list[str | Path] = [sys.executable, ZIPAPP, "estimate", "--json", OUT / "live.oci"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    told = json.loads(done.stdout)["layouts"]
    return [StorageOption(name, told[name]["arguments"], told[name]["machine"] // 2**20) for name in OPTIONS]


def boot_disk(disk: Path) -> float:
    """Seconds that the same tree takes from a virtio disk, in the same guest."""
    with Guest(
        Kernel(initrds=[OUT / "initrd.img"], append=f"{FAILING} root=/dev/vda rootfstype=ext4 rw"),
        memory=HIGH,
        extra=["-drive", f"file={disk},format=raw,if=virtio,snapshot=on"],
    ) as guest:
        return guest.wait_ready(SECONDS).seconds


def test_the_smallest_machine(source: str, options: list[StorageOption], disk: Path, figures: Figures) -> None:
    rows, wrong = [], []
    for option in options:
        trials = Trials(f"{FAILING} root=bootc-live:{source} bootc.registry.unsecure {option.kargs}")
        # Beside each other, as others may work on this machine, too.
        from_disk = boot_disk(disk)
        assert trials.boots(HIGH), f"{option.name} does not even boot in {HIGH} MiB:\n{trials.consoles[HIGH][-3000:]}"
        found = smallest(trials.boots, option.estimated, STEP, LOW, HIGH)
        rows.append(row(option, found, trials, from_disk))
        wrong += complaints(option, found - STEP, trials)
    head = ("option", "smallest, MiB", "estimated", "peak, MiB", "phases, s", "ready, s", "disk, s", "ready × disk")
    figures.table("smallest machine for the live image, by registry; times with 1 GiB", head, rows)
    assert not wrong, "\n".join(wrong)


def row(option: StorageOption, found: int, trials: Trials, from_disk: float) -> Sequence[object]:
    """A line of the table."""
    roomy = trials.ready[HIGH]
    receipt = roomy.receipt or {}
    return (
        option.name,
        found,
        option.estimated,
        receipt["peak_memory"] // 2**20,
        round(sum(receipt["phases"].values()), 1),
        round(roomy.seconds, 1),
        round(from_disk, 1),
        roomy.seconds / from_disk,
    )


def complaints(option: StorageOption, below: int, trials: Trials) -> list[str]:
    """What is wrong with the boot one step below the smallest that does: it must end with one of our errors."""
    if below not in trials.consoles:
        trials.boots(below)
    console = trials.consoles[below]
    found = [word for word in BROKEN if word in console]
    if not any(words in console for words in REFUSED):
        found.append(f"none of {REFUSED}")
    return [f"{option.name} in {below} MiB: {', '.join(found)}:\n{console[-2000:]}"] if found else []
