"""Which deployment runs, and whether the next one has the same kernel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bootc_live.base.errors import LandingError, RunError
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.source_spec import DeploymentRoot
from bootc_live.landing.disk.boot_partition.interface import BootLoader
from bootc_live.landing.disk.boot_partition.type1 import SystemdBoot
from bootc_live.landing.disk.deployments import Deployment, Deployments
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.disk.running import booted, soft_reboot
from bootc_live.landing.disk.settings import Settings
from tests.unit.boot_partitions import STYLES, Style, add, quick

__all__ = ["quick"]

ONE, TWO = "1" * 64, "2" * 64
CMDLINE = f"quiet root=bootc-live:deployment:UUID=ab:1@{ONE}"


@pytest.mark.parametrize(
    ("receipt", "found"),
    [
        (None, (1, ONE)),
        ("damaged", (1, ONE)),
        ([], (1, ONE)),
        ({"image": {}}, (1, ONE)),
        ({"deployment": {"number": 2, "root": TWO, "device": "UUID=ab", "verity": True}}, (2, TWO)),
        ({"deployment": {"number": 2, "root": TWO, "device": "UUID=other"}}, (1, ONE)),
        ({"deployment": {"number": "2", "root": TWO, "device": "UUID=ab"}}, (1, ONE)),
        ({"deployment": None}, (1, ONE)),
    ],
)
def test_receipt_counts(receipt: object, found: tuple[int, str], tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    if receipt is not None:
        path.write_text(receipt if isinstance(receipt, str) else json.dumps(receipt))
    root = booted.booted_root(parse_cmdline(CMDLINE).deployment, str(path))
    assert isinstance(root, DeploymentRoot)
    assert ((root.number, root.digest), root.device) == (found, "UUID=ab")


class Records(Deployments):
    """Deployments whose kernels have these versions."""

    def __init__(self, versions: dict[int, str]) -> None:
        super().__init__("/disk")
        self.versions = versions

    def read(self, number: int) -> Deployment:
        """Return one."""
        return Deployment(number, "/a.oci", "", ONE, "", self.versions[number], verity=True)


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
