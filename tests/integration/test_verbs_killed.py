"""Whatever ends a verb, at whatever moment, it leaves nothing behind or all of its result."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.lib.boot_images import boot_image
from tests.lib.leaks import nothing_left
from tests.lib.oci_writer import write_archive
from tests.lib.private_mounts import workers
from tests.lib.program import ERROR, Program
from tests.lib.zram import devices, own_size

MIB: Final = 2**20
SECONDS: Final = 120
ZRAM_SIZE: Final = own_size(64 * MIB)
BOOT: Final = ("boot", "--sysroot", "{root}", "--receipt", "{receipt}", "--cmdline")
SOME, MANY = 2, 300

# Each makes something in `{root}` of `{image}`.
CASES: Final = {
    "boot": (*BOOT, "root=bootc-live:{image}"),
    "boot-rw": (*BOOT, "root=bootc-live:{image} rw"),
    "boot-erofs": (*BOOT, "root=bootc-live:{image} bootc.live.layout=erofs bootc.live.compress=lz4"),
    "boot-tree": (*BOOT, "root=bootc-live:{image} bootc.live.layout=tree"),
    "boot-zram": (*BOOT, f"root=bootc-live:{{image}} bootc.zram={ZRAM_SIZE} bootc.live.layout=tree"),
    "unpack": ("unpack", "{image}", "{root}/made"),
    "unpack-into": ("unpack", "{image}", "{root}"),
    "erofs": ("erofs", "{image}", "{root}/made"),
    "netboot": ("netboot", "{image}", "--rootfs", "-o", "{root}/made"),
    "overlay": ("guest", "overlay", "--path", "{root}", "--volatile"),
}


@dataclass(frozen=True)
class Ending:
    """How a verb is ended."""

    number: signal.Signals
    child: bool
    """By a signal to the process that does the work, not to the one that was started."""

    def send(self, process: subprocess.Popen[bytes]) -> None:
        """End it, if it still runs."""
        if not self.child:
            process.send_signal(self.number)
            return
        for pid in workers(process.pid):
            # It may have ended by itself just now.
            with suppress(ProcessLookupError):
                os.kill(pid, self.number)


ENDINGS: Final = (
    Ending(signal.SIGTERM, child=False),
    Ending(signal.SIGKILL, child=True),
    Ending(signal.SIGINT, child=False),
    Ending(signal.SIGTERM, child=True),
    Ending(signal.SIGHUP, child=False),
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, small: Path) -> Callable[[str], Path]:
    """What a case works on."""
    bootable = write_archive(tmp_path_factory.mktemp("bootable") / "image.oci", boot_image())
    return lambda case: bootable if case == "netboot" else small


@pytest.mark.parametrize("count", [SOME, pytest.param(MANY, marks=pytest.mark.long)], ids=["some", "many"])
@pytest.mark.parametrize("case", CASES)
def test_at_any_moment(case: str, count: int, spawned: Program, image: Callable[[str], Path], tmp_path: Path) -> None:
    root, receipt, log = tmp_path / "root", tmp_path / "receipt.json", tmp_path / "log"
    root.mkdir()
    command = [word.format(image=image(case), root=root, receipt=receipt) for word in CASES[case]]
    began = time.monotonic()
    spawned.run(*command).good()
    whole = time.monotonic() - began
    _take_away(root, receipt)
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    for number in range(count):
        # All cases together see all endings, in the short form, too.
        ending = ENDINGS[(number + list(CASES).index(case)) % len(ENDINGS)]
        moment = moments.uniform(0.2, 1.0) * whole
        told = f"{ending} after {moment:.3f} s of {whole:.3f}"
        with nothing_left(tmp_path):
            with spawned.started(*command, log=log) as process:
                try:
                    process.wait(moment)
                except subprocess.TimeoutExpired:
                    ending.send(process)
                status = process.wait(SECONDS)
            said = log.read_text()
            if status != 0:
                # Else it was Python itself that was ended, before the program had begun.
                begun = "bootc-live: " in said
                assert status == 1 or not begun, f"{told}: {status}\n{said}"
                assert said.count(ERROR) == begun, f"{told}\n{said}"
                assert [*root.iterdir(), *tmp_path.glob("receipt*")] == [], f"{told}\n{said}"
                assert not _zram_left(), told
                assert not root.is_mount(), told
            _take_away(root, receipt)


def _zram_left() -> bool:
    return any(not found.gone() for found in devices(ZRAM_SIZE.__eq__))


def _take_away(root: Path, receipt: Path) -> None:
    """Remove what a verb is there for."""
    if root.is_mount():
        subprocess.run(["umount", "-R", root], check=True)
        receipt.unlink(missing_ok=True)
    shutil.rmtree(root)
    root.mkdir()
    for found in devices(ZRAM_SIZE.__eq__):
        found.remove()
