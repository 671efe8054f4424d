"""Which deployment runs, and whether the next one has the same kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootc_live.base.errors import LandingError, RunError
from bootc_live.landing.disk.boot_partition.interface import BootLoader
from bootc_live.landing.disk.boot_partition.type1 import SystemdBoot
from bootc_live.landing.disk.deployments import Deployment, Deployments
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.disk.running import booted, soft_reboot
from bootc_live.landing.disk.settings import Settings
from tests.unit.boot_partitions import STYLES, Style, add, quick

__all__ = ["quick"]

ROOT = "30 1 0:25 / / ro - overlay bootc-live ro"
TOP = "/bootc-live/deployments"
RAM = "40 30 0:40 /etc/rw /etc rw - tmpfs tmpfs rw"


def bound(number: object, place: str = "/etc", top: str = TOP) -> str:
    return f"31 30 254:2 {top}/{number}/etc {place} rw,relatime shared:2 - ext4 /dev/vda2 rw"


@pytest.mark.parametrize(
    ("mounts", "number"),
    [
        ([ROOT, bound(1)], 1),
        ([ROOT, bound(12, top=f"/@/a\\040b{TOP}")], 12),
        ([ROOT, bound(1), RAM], 1),
        ([ROOT, bound(1), bound(2)], 2),
        ([], None),
        ([ROOT], None),
        ([ROOT, RAM], None),
        ([ROOT, bound(1, "/run/old/etc"), RAM], None),
        ([ROOT, bound(1, "/sysroot/etc")], None),
        ([ROOT, bound("01")], None),
        ([ROOT, bound("1/etc/x")], None),
        ([ROOT, bound(1, top="/x-bootc-live/deployments")], None),
    ],
)
def test_what_is_mounted_counts(mounts: list[str], number: int | None, tmp_path: Path) -> None:
    """Not what the kernel was started for, nor what is in the way of a pivot or mounted elsewhere."""
    path = tmp_path / "mountinfo"
    path.write_text("".join(f"{line}\n" for line in mounts))
    assert booted.running_deployment(str(path)) == number


class Records(Deployments):
    """Deployments whose kernels have these versions."""

    def __init__(self, versions: dict[int, str]) -> None:
        super().__init__("/disk")
        self.versions = versions

    def read(self, number: int) -> Deployment:
        """Return one."""
        return Deployment(number, "/a.oci", "", "1" * 64, "", self.versions[number], verity=True)


@pytest.mark.parametrize("style", STYLES, ids=[style.name for style in STYLES])
@pytest.mark.parametrize(
    ("version", "files", "said"),
    [("6.1", 1, ""), ("6.2", 1, "its kernel is 6.2, and 6.1 runs"), ("6.1", 2, "is not the one that runs")],
)
def test_kernel(version: str, files: int, said: str, style: Style, tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    boot.mkdir()
    style.prepare(boot)
    loader: BootLoader = style.make()
    add(loader, boot, tmp_path, 1, 1, files=1)
    entry = add(loader, boot, tmp_path, 2, 2, files=files, left=3)
    settings = Settings("/a.oci", "UUID=1", "UUID=2", "systemd-boot")
    machine = Machine(Records({1: "6.1", 2: version}), str(boot), settings, loader, 1)
    if not said:
        soft_reboot.check_kernel(machine, entry)
        return
    with pytest.raises(LandingError, match=said):
        soft_reboot.check_kernel(machine, entry)


def test_missing_entry(tmp_path: Path) -> None:
    """What is running cannot be compared with."""
    boot = tmp_path / "boot"
    boot.mkdir()
    entry = add(SystemdBoot(), boot, tmp_path, 2, 2, files=2)
    machine = Machine(
        Records({1: "6.1", 2: "6.1"}), str(boot), Settings("/a", "UUID=1", "UUID=2", "uki"), SystemdBoot(), 1
    )
    with pytest.raises(LandingError, match="deployment 1 has no boot entry"):
        soft_reboot.check_kernel(machine, entry)


@pytest.mark.parametrize(
    ("systemd", "active", "mounted", "said"),
    [
        ("", True, False, ""),
        ("systemd 252 runs, and 254 is needed", True, False, "systemd 252 runs, and 254 is needed"),
        ("", False, False, "bootc-live-finalize.service does not run"),
        ("", True, True, "another root waits at /run/nextroot"),
    ],
)
def test_possible(systemd: str, active: bool, mounted: bool, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str]) -> str:
        if not active:
            raise RunError(f"{argv[0]} failed", hint="none")
        return ""

    monkeypatch.setattr(soft_reboot, "soft_reboot_obstacle", lambda: systemd)
    monkeypatch.setattr(soft_reboot, "is_mount_point", lambda _: mounted)
    monkeypatch.setattr(soft_reboot, "run", run)
    if not said:
        soft_reboot.check_possible()
        return
    with pytest.raises(LandingError, match=said):
        soft_reboot.check_possible()
