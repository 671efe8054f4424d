"""The units of systems on a disk, in systemd itself: when they start, what follows a failure, and what comes last."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from bootc_live.landing.disk.first_etc import LINKS
from tests.lib.container import Container
from tests.lib.program import ENVIRONMENT

REPO: Final = Path(__file__).resolve().parents[2]
UNITS: Final = REPO / "systemd"
SECONDS: Final = 240
DISK: Final = f"root=bootc-live:deployment:UUID=1-2:3@{'0' * 64} quiet\n"
# After a pivot, the kernel command line is still that of the boot from a disk.
RAM: Final = ""
PROGRAMS: Final = {
    # In place of the program: what is asked of it, and whether /etc and /var are still there.
    "bootc-live": 'test -e /etc/passwd && test -d /var/lib && echo "bootc-live $*" >>/srv/log\n'
    "test ! -e /srv/emergency || systemctl --no-block poweroff\n",
    "web": "echo web >>/srv/log\n. /srv/web\n",
    # Long enough for what must not start: it is ordered after the same targets.
    "end": "systemctl is-active bootc-live-health.target >/srv/health\nsystemctl --no-block poweroff\n",
}
SERVICES: Final = {
    "web": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=web\n",
    "worker": "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n"
    "ExecStop=sh -c 'echo worker stops >>/srv/log'\n[Install]\nWantedBy=multi-user.target\n",
    "cmdline": "[Unit]\nDefaultDependencies=no\nBefore=sysinit.target\n[Service]\nType=oneshot\n"
    "ExecStart=mount --bind /srv/cmdline /proc/cmdline\n"
    # As the initramfs would have mounted it; below the one that there is.
    "ExecStart=sh -ec 'test -d /srv/bootc-live || exit 0; mkdir /run/etc; mount --bind /etc /run/etc; "
    "mount --bind /srv/bootc-live/deployments/3/etc /etc; mount --bind /run/etc /etc'\n"
    "[Install]\nWantedBy=sysinit.target\n",
    # Enabled by one test alone. What a target requires is not before it by itself, without default dependencies.
    "disk": "[Unit]\nDefaultDependencies=no\nAfter=cmdline.service\nBefore=local-fs.target\n[Service]\nType=oneshot\n"
    "ExecStart=touch /srv/emergency\nExecStart=false\n",
    # multi-user.target does not wait for it, for that is before the judge.
    "end": "[Unit]\nDefaultDependencies=no\nAfter=bootc-live-health.service bootc-live-fallback.service\n"
    "After=bootc-live-update.service bootc-live-finalize.service\nWants=bootc-live-update.service\n"
    "[Service]\nType=exec\nExecStart=end\n[Install]\nWantedBy=multi-user.target\n",
}
UPDATE: Final = "bootc-live upgrade --workdir /var/cache/bootc-live"
HANGS: Final = "exec sleep infinity"
LAST: Final = ["worker stops", "bootc-live upgrade --finalize"]
FAILED: Final = ["bootc-live health --failed", UPDATE, *LAST]


def test_systemd_understands_them() -> None:
    """Nothing is misspelt, and what is ordered has no circles."""
    # It leaves directories in /run, and wants programs to be there.
    script = "for place in /run /usr/local/bin; do mount -t tmpfs none $place; done\n"
    script += 'install -m 755 /dev/null /usr/local/bin/bootc-live\nexec systemd-analyze verify --man=no "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script, "sh", *sorted(UNITS.iterdir())],
        env={**ENVIRONMENT, "SYSTEMD_UNIT_PATH": f"{UNITS}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def layer(where: Path) -> Path:
    """What is put on a system: our units, enabled, a service that has to be up, and one that stops."""
    programs, system = where / "usr/local/bin", where / "etc/systemd/system"
    programs.mkdir(parents=True)
    for name, script in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}")
        (programs / name).chmod(0o755)
    shutil.copytree(UNITS, where / "usr/lib/systemd/system")
    system.mkdir(parents=True)
    (system / "network-online.target.d").mkdir()
    (system / "bootc-live-health.target.requires").mkdir()
    (system / "bootc-live-health.target.requires/web.service").symlink_to("../web.service")
    for name, text in SERVICES.items():
        (system / f"{name}.service").write_text(text)
        if "WantedBy=" in text:
            wants = system / f"{text.rpartition('=')[2].strip()}.wants"
            wants.mkdir(exist_ok=True)
            (wants / f"{name}.service").symlink_to(f"../{name}.service")
    for unit, asking in LINKS.items():
        (system / asking).mkdir(exist_ok=True)
        (system / asking / unit).symlink_to(f"/usr/lib/systemd/system/{unit}")
    # The network of a container is never online.
    (system / "systemd-networkd-wait-online.service").symlink_to(os.devnull)
    return where


def started(container: Container, where: Path, upper: Path, cmdline: str, web: str) -> Path:
    """A system that was started, and powered itself off; return the directory that it shared."""
    shared, place = where / "shared", where / "root"
    for made in (shared, place):
        made.mkdir()
    (shared / "cmdline").write_text(cmdline or DISK)
    if cmdline:
        (shared / "bootc-live/deployments/3/etc").mkdir(parents=True)
    (shared / "web").write_text(f"{web}\n")
    container.script = f"mount --bind {REPO}/vm/out/roots/live {place}; mount -o remount,bind,ro {place}"
    hooks = [f"overlay --volatile --path {place} -- {upper}", f"mount --bind {shared} {place}/srv"]
    config, log = where / "guest.yml", where / "log"
    config.write_text(f"root: {place}\nsetup:\n  before:\n" + "".join(f"  - {hook}\n" for hook in hooks))
    with (
        log.open("wb") as output,
        subprocess.Popen(
            container.argv("--config", config), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=ENVIRONMENT
        ) as process,
    ):
        try:
            process.wait(SECONDS)
        finally:
            process.kill()
    assert (shared / "log").exists(), log.read_text()
    return shared


@pytest.mark.parametrize(
    ("cmdline", "web", "expected", "healthy"),
    [
        pytest.param(DISK, "exit 0", ["web", "bootc-live health", UPDATE, *LAST], "active", id="good"),
        pytest.param(DISK, "exit 1", ["web", *FAILED], "inactive", id="bad"),
        # Whether it has begun when the time is over depends on the machine.
        pytest.param(DISK, HANGS, FAILED, "inactive", id="hangs"),
        pytest.param(RAM, "exit 1", ["web", "worker stops"], "inactive", id="from RAM"),
    ],
)
def test_in_systemd(
    container: Container, tmp_path: Path, cmdline: str, web: str, expected: list[str], healthy: str
) -> None:
    upper = layer(tmp_path / "layer")
    if web == HANGS:
        drop_in = upper / "etc/systemd/system/bootc-live-health.target.d/soon.conf"
        drop_in.parent.mkdir()
        drop_in.write_text("[Unit]\nJobTimeoutSec=3s\n")
    shared = started(container, tmp_path, upper, cmdline, web)
    lines = (shared / "log").read_text().splitlines()
    assert [line for line in lines if web != HANGS or line != "web"] == expected
    assert (shared / "health").read_text().strip() == healthy


def test_emergency(container: Container, tmp_path: Path) -> None:
    """A boot that ends there is a failure."""
    upper = layer(tmp_path / "layer")
    requires = upper / "etc/systemd/system/local-fs.target.requires"
    requires.mkdir()
    (requires / "disk.service").symlink_to("../disk.service")
    shared = started(container, tmp_path, upper, DISK, "exit 0")
    assert (shared / "log").read_text().splitlines() == ["bootc-live health --failed"]
