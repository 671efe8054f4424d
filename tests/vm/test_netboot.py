"""The image as a second initrd: a node that boots from memory, with nothing to fetch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.vm.kinds import obstacle
from tests.vm.rows import FAILING
from vmkit.guest import Guest
from vmkit.namespaces import NamespaceGuest
from vmkit.paths import OUT, ZIPAPP
from vmkit.start import Kernel

BOOT_SECONDS = 900


def test_rootfs_boots(tmp_path: Path) -> None:
    target = tmp_path / "os"
    argv = [
        sys.executable,
        str(ZIPAPP),
        "netboot",
        str(OUT / "live.oci"),
        "--rootfs",
        "--output",
        str(target),
        "--json",
    ]
    told = json.loads(subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout)
    initrds = [target / "initrd.img", target / "rootfs.cpio"]
    start = Kernel(target / "vmlinuz", initrds, f"{FAILING} {told['cmdline']}")
    with Guest(start) if obstacle() else NamespaceGuest(start) as guest:
        ready = guest.wait_ready(BOOT_SECONDS)
    assert (ready.target, ready.failed) == ("multi-user.target", 0)
    receipt = ready.receipt or {}
    assert receipt["source"] == "/rootfs"
    assert receipt["image"]["manifest_digest"] == told["digest"]
    assert receipt["bytes"]["transferred"] == 0
