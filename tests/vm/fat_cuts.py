"""Cut the power of User-mode Linux while it changes a boot partition. Runs in the root forky.

``drive STYLE DISK CUTS`` boots DISK, a FAT file system, and kills the guest at a random moment, CUTS times. In the
guest, ``work STYLE`` first checks what the last cut left, and then makes changes until it is killed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Final

import pytest

from bootc_live.formats.boot_entry import Entry, EntryName
from bootc_live.landing.disk.boot_partition import type2
from bootc_live.landing.disk.boot_partition.interface import BootLoader, next_order
from bootc_live.landing.disk.boot_partition.kernels import damaged_kernels
from bootc_live.rootfs.boot_files.files import BootFile
from tests.unit.boot_partitions import STYLES, Style, build_uki

GUEST: Final = Path("/guest")
BOOT: Final = Path("/tmp/boot")
SECONDS: Final = 120
INIT: Final = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mkdir -p /tmp/boot '{repo}'
mount -t hostfs -o 'hostfs={repo}' repo '{repo}'
cd '{repo}'
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root PYTHONDONTWRITEBYTECODE=1 PYTHONPATH='{path}'
for module in nls_ascii nls_cp437 nls_iso8859_1 nls_utf8 vfat; do modprobe $module; done
mount -t vfat /dev/ubda /tmp/boot
python3 -m tests.vm.fat_cuts work {style} >>/guest/log 2>&1
sleep 600
"""


def drive(style: str, disk: str, cuts: int) -> None:
    """Boot and cut; raise AssertionError with what the guest said if something is wrong after a cut."""
    for release in Path("/usr/lib/uml/modules").iterdir():
        Path("/usr/lib/modules", release.name).symlink_to(release)
    GUEST.mkdir()
    init, log = GUEST / "init", GUEST / "log"
    init.write_text(INIT.format(repo=os.getcwd(), path=os.environ["PYTHONPATH"], style=style))
    init.chmod(0o755)
    argv = ["linux.uml", "mem=400M", "rootfstype=hostfs", "rootflags=/", "rw", "init=/guest/init", f"ubd0={disk}"]
    argv += ["con=null", "con0=null,fd:1", "ssl=null", "console=tty0", "quiet"]
    for cut in range(cuts):
        log.write_text("")
        with (GUEST / "console").open("wb") as console:
            guest = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=console, start_new_session=True)
        last = time.monotonic() + SECONDS
        while "ready" not in log.read_text() and "Error" not in log.read_text() and time.monotonic() < last:
            time.sleep(0.05)
        time.sleep(random.uniform(0, 2))
        os.killpg(guest.pid, signal.SIGKILL)
        guest.wait()
        said = log.read_text()
        if "ready" not in said or "Error" in said:
            raise AssertionError(said + (GUEST / "console").read_text(errors="replace"))
        print(f"cut {cut}: {said.count('changed')} changes", flush=True)


def numbered(number: int) -> list[BootFile]:
    """A kernel and an initrd that are always the same for a number."""
    content = random.Random(number)
    paths = [Path(f"/tmp/{kind}{number}") for kind in ("kernel", "initrd")]
    for path in paths:
        path.write_bytes(b"MZ" + content.randbytes(1_500_000))
    return [BootFile(str(path), 0, path.stat().st_size) for path in paths]


def add(loader: BootLoader, order: int, deployment: int, files: int, left: int | None) -> None:
    entry = Entry(EntryName(order, deployment, left), "x", f"files={files}")
    loader.add(str(BOOT), entry, *numbered(files))


def check(style: Style, loader: BootLoader) -> None:
    """Compare what would be started with what was written."""
    boot, begun = str(BOOT), BOOT / "begun"
    if not begun.exists():
        style.prepare(BOOT)
        add(loader, 1, 1, 1, None)
        begun.touch()
        os.sync()
    starts = style.starts(BOOT)
    assert starts is not None
    kernel, initrd = numbered(int(starts.arguments[0].value or 0))
    assert (starts.kernel, starts.initrd) == (kernel.read(), initrd.read())
    # An entry that is not the default may name a kernel that is gone, but then it is not used.
    assert damaged_kernels(boot) == [] or style.name == "grub"


def change(loader: BootLoader) -> None:
    boot = str(BOOT)
    # As an upgrade does with what was interrupted.
    for name in loader.broken(boot):
        loader.remove(boot, name.deployment)
    present = loader.entries(boot)
    order, deployments = next_order(loader, boot), sorted({entry.name.deployment for entry in present})
    one, left = random.choice(deployments), random.choice([None, 3])
    what = random.choice(["add", "add", "promote", "bless", "remove"]) if len(deployments) < 4 else "remove"
    if what == "add":
        add(loader, order, random.choice([one, deployments[-1] + 1]), random.randrange(1, 6), left)
    elif what == "promote":
        loader.promote(boot, one, order, left)
    elif what == "bless":
        loader.bless(boot, one)
    elif len(deployments) > 1:
        loader.remove(boot, one)
    assert list(BOOT.rglob("*.new")) == []


def work(name: str) -> None:
    """Check, and change until the end."""
    patch = pytest.MonkeyPatch()
    patch.setattr(type2, "check_tools", str)
    patch.setattr(type2, "build_uki", build_uki)
    (style,) = (style for style in STYLES if style.name == name)
    loader = style.make()
    check(style, loader)
    print("ready", flush=True)
    while True:
        change(loader)
        print("changed", flush=True)


if __name__ == "__main__":
    try:
        if sys.argv[1] == "drive":
            drive(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        else:
            work(sys.argv[2])
    except Exception:  # noqa: BLE001 # whatever it is, it is to be read
        traceback.print_exc()
        sys.exit(1)
