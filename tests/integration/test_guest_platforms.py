"""``guest`` as the first process of the containers that people have: systemd-nspawn and podman.

Commands and configuration are those of docs/guest.md, and this machine's root is that of the container. podman gets
neither control groups nor a network, which this machine may not have.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration.test_guest_systems import layer
from tests.lib.container import FIRST, busybox_root
from tests.lib.pages import blocks
from tests.lib.program import ENVIRONMENT

SECONDS = 240
TOP = Path("/srv/guest")
# What managers of containers leave in /run goes with their namespace.
ALONE = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec"]
PRIVATE_RUN = "mount -t tmpfs -o mode=755 tmpfs /run\n"
CONTAINERS = """\
[containers]
cgroups = "disabled"
netns = "none"
log_driver = "none"
[engine]
cgroup_manager = "cgroupfs"
"""
STORAGE = """\
[storage]
driver = "vfs"
graphroot = "{top}/graph"
runroot = "{top}/run"
"""


@pytest.fixture
def page(repo: Path) -> dict[str, str]:
    """The blocks of the page, by their headings."""
    return {block.heading: block.text for block in blocks((repo / "docs/guest.md").read_text())}


@pytest.fixture
def top(zipapp: Path, repo: Path, page: dict[str, str]) -> Iterator[Path]:
    """The files of the page's table, but the guest's root."""
    TOP.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", TOP], check=True)
    try:
        for name in ("os", "own/upper", "own/work", "root", "cache"):
            (TOP / name).mkdir(parents=True)
        options = f"lowerdir=/,upperdir={TOP}/own/upper,workdir={TOP}/own/work"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", TOP / "os"], check=True)
        program = TOP / "os/usr/lib/bootc-live/program"
        with zipfile.ZipFile(zipapp) as archive:
            archive.extractall(program)
        (TOP / "os/usr/sbin/init").unlink()
        shutil.copy(repo / "vm/guest/bootc-live", TOP / "os/usr/sbin/init")
        for name in ("root", "cache"):
            (TOP / "os/mnt" / name).mkdir(exist_ok=True)
        (TOP / "init.yml").write_text(page["Platforms"])
        yield TOP
    finally:
        subprocess.run(["umount", "--recursive", TOP], check=True)
        TOP.rmdir()


def run(argv: Sequence[str], report: Path, log: Path, variables: dict[str, str]) -> list[str]:
    """Run a container until its guest reports; return the lines."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**ENVIRONMENT, **variables}
        ) as process,
    ):
        try:
            deadline = time.monotonic() + SECONDS
            while not report.exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            return report.read_text().splitlines()
        finally:
            process.kill()


def check(lines: list[str], init: str, log: Path) -> None:
    """The guest is as its file says."""
    assert lines[:3] == [init, "0", "0:0"]
    assert lines[3].split() == ["0", str(FIRST), "65536"]
    assert "made 0:0" in lines
    assert not [line for line in lines if line.startswith("failed ")]
    assert "the guest starts" in log.read_text()


def test_nspawn(top: Path, page: dict[str, str], repo: Path, tmp_path: Path) -> None:
    subprocess.run(["systemd-machine-id-setup"], check=True, capture_output=True)
    upper = layer("systemd", tmp_path / "layer")
    subprocess.run(["cp", "-a", f"{repo}/vm/out/roots/live/.", f"{upper}/.", top / "root"], check=True)
    # There is no machined to register with, and nothing of the machine's network is touched.
    command = page["systemd-nspawn"].replace("systemd-nspawn", "systemd-nspawn --register=no --keep-unit", 1)
    argv = [*ALONE, PRIVATE_RUN + command]
    log = tmp_path / "log"
    lines = run(argv, top / "cache/overlay/upper/srv/report", log, {})
    check(lines, "systemd", log)


def test_podman(top: Path, page: dict[str, str], tmp_path: Path) -> None:
    root = top / "root"
    root.rmdir()
    busybox_root(root)
    for name in ("srv", "sbin"):
        (root / name).mkdir()
    (root / "sbin/init").symlink_to("../bin/busybox")
    subprocess.run(["cp", "-a", f"{layer('busybox', tmp_path / 'layer')}/.", root], check=True)
    (tmp_path / "containers.conf").write_text(CONTAINERS)
    (tmp_path / "storage.conf").write_text(STORAGE.format(top=top))
    variables = {
        "CONTAINERS_CONF": str(tmp_path / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"),
    }
    argv = [*ALONE, f"{PRIVATE_RUN}mount -t cgroup2 none /sys/fs/cgroup\n{page['podman']}"]
    log = tmp_path / "log"
    lines = run(argv, top / "cache/overlay/upper/srv/report", log, variables)
    check(lines, "init", log)
    assert os.path.ismount(top)
