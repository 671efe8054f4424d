"""What tells hosts apart: network hardware first, then the board, then the machine id."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootc_live.config.host.identity import host_identity

UUID = "4C4C4544-0042-3510-8056-B7C04F4A3332"
MACHINE = "0123456789abcdef0123456789abcdef"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def interface(root: Path, name: str, address: str, *, hardware: bool = True) -> None:
    write(root / "sys/class/net" / name / "address", f"{address}\n")
    if hardware:
        (root / "sys/class/net" / name / "device").mkdir()


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with all of it."""
    interface(tmp_path, "ens3", "52:54:00:AA:00:02")
    interface(tmp_path, "eno1", "52:54:00:12:34:56")
    interface(tmp_path, "lo", "00:00:00:00:00:00", hardware=False)
    interface(tmp_path, "br0", "02:42:11:22:33:44", hardware=False)
    interface(tmp_path, "dead0", "00:00:00:00:00:00")
    (tmp_path / "sys/class/net/bonding_masters").write_text("bond0\n")
    write(tmp_path / "sys/class/dmi/id/product_uuid", f"{UUID}\n")
    write(tmp_path / "etc/machine-id", f"{MACHINE}\n")
    return tmp_path


def without_addresses(root: Path) -> None:
    for device in (root / "sys/class/net").glob("*/device"):
        device.rmdir()


def test_addresses_of_hardware_sorted(host: Path) -> None:
    assert host_identity(str(host)) == "52:54:00:12:34:56,52:54:00:aa:00:02"


def test_names_of_interfaces_do_not_matter(host: Path) -> None:
    before = host_identity(str(host))
    (host / "sys/class/net/ens3").rename(host / "sys/class/net/a0")
    assert host_identity(str(host)) == before


def test_then_the_board(host: Path) -> None:
    without_addresses(host)
    assert host_identity(str(host)) == UUID.lower()


@pytest.mark.parametrize(
    "useless", ["", "\n", "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"]
)
def test_then_the_machine_id(host: Path, useless: str) -> None:
    without_addresses(host)
    write(host / "sys/class/dmi/id/product_uuid", useless)
    assert host_identity(str(host)) == MACHINE


@pytest.mark.parametrize("empty", ["", "uninitialized\n"])
def test_then_the_kernel_command_line(host: Path, empty: str) -> None:
    without_addresses(host)
    (host / "sys/class/dmi/id/product_uuid").unlink()
    write(host / "etc/machine-id", empty)
    assert host_identity(str(host)) == ""
    write(host / "proc/cmdline", f"quiet systemd.machine_id=x systemd.machine_id={MACHINE} rw\n")
    assert host_identity(str(host)) == MACHINE


def test_a_bare_host_has_none(tmp_path: Path) -> None:
    assert host_identity(str(tmp_path)) == ""
