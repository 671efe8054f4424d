"""Whole systems as guests: systemd, SysV init and busybox, each with and without an ID map."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.container import FIRST, MAP, Container, busybox_root, control_group, give
from tests.lib.program import ENVIRONMENT

SECONDS = 240
# In the guest; a directory of the container that both see.
REPORT = """\
#!/bin/sh
{
    cat /proc/1/comm
    id -u
    stat -c %u:%g /etc/passwd
    cat /proc/self/uid_map
    ls /proc/1/root/
    ls /sys/class/net | sed 's/^/interface /'
    test -d /run/systemd/system && systemctl list-units --failed --no-legend --plain | sed 's/^/failed /'
    touch /etc/made && stat -c 'made %u:%g' /etc/made
} >/srv/report.new 2>&1
mv /srv/report.new /srv/report
"""
SERVICE = """\
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/usr/local/bin/report
"""
INITTAB = (
    "id:2:initdefault:\nsi::sysinit:/etc/init.d/rcS\nl2:2:wait:/etc/init.d/rc 2\nre:2:once:/usr/local/bin/report\n"
)


@pytest.fixture
def container(zipapp: Path) -> Iterator[Container]:
    with control_group("systems") as group:
        yield Container(zipapp, group)


def layer(init: str, where: Path) -> Path:
    """What is put on top of a system so that it reports."""
    program = where / "usr/local/bin/report"
    program.parent.mkdir(parents=True)
    program.write_text(REPORT)
    program.chmod(0o755)
    if init == "systemd":
        wants = where / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True)
        (wants.parent / "report.service").write_text(SERVICE)
        (wants / "report.service").symlink_to("../report.service")
    else:
        (where / "etc").mkdir()
        text = "::sysinit:/usr/local/bin/report\n" if init == "busybox" else INITTAB
        (where / "etc/inittab").write_text(text)
    return where


@pytest.fixture(scope="module")
def roots(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The roots of systems, by their inits."""
    busybox = busybox_root(tmp_path_factory.mktemp("busybox") / "root")
    (busybox / "srv").mkdir()
    (busybox / "sbin").mkdir()
    (busybox / "sbin/init").symlink_to("../bin/busybox")
    return {"systemd": repo / "vm/out/roots/live", "sysvinit": repo / "vm/out/roots/inits", "busybox": busybox}


@pytest.mark.parametrize("id_map", ["", MAP], ids=["plain", "mapped"])
@pytest.mark.parametrize("init", ["systemd", "sysvinit", "busybox"])
def test_system(container: Container, roots: dict[str, Path], tmp_path: Path, init: str, id_map: str) -> None:
    """It boots from a root that it cannot change, with a layer on top, by the hooks of the documentation."""
    owner = FIRST if id_map else 0
    upper, shared = layer(init, tmp_path / "layer"), tmp_path / "shared"
    shared.mkdir()
    give(upper, owner)
    give(shared, owner)
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    place = tmp_path / "root"
    place.mkdir()
    container.script = f"mount --bind {roots[init]} {place}; mount -o remount,bind,ro {place}"
    mapping = f"mount-idmapped --map-mount=b:0:{FIRST}:65536 {place} {place}"
    hooks = [*([mapping] if id_map else []), f"overlay --volatile --path {place} -- {upper}"]
    listed = "".join(f"  - {hook}\n" for hook in [*hooks, f"mount --bind {shared} {place}/srv"])
    config, log = tmp_path / "guest.yml", tmp_path / "log"
    config.write_text(f"root: {place}\nsetup:\n  before:\n{listed}exec:\n  before: echo hello\n{id_map}")
    with (
        log.open("wb") as output,
        subprocess.Popen(
            container.argv("--config", config), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=ENVIRONMENT
        ) as process,
    ):
        try:
            deadline = time.monotonic() + SECONDS
            while not (shared / "report").exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            lines = (shared / "report").read_text().splitlines()
        finally:
            process.kill()
    names = {"systemd": "systemd", "sysvinit": "init", "busybox": "init"}
    assert lines[:3] == [names[init], "0", "0:0"]
    assert lines[3].split() == (["0", str(FIRST), "65536"] if id_map else ["0", "0", "4294967295"])
    assert "made 0:0" in lines
    assert not [line for line in lines if line.startswith("failed ")]
    assert (shared / "report").stat().st_uid == owner
    assert log.read_text().startswith("hello\n")
    assert not (roots[init] / "etc/made").exists()
    shutil.rmtree(shared)
