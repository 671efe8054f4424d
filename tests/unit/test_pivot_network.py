"""Addresses and routes that a machine keeps: as ``ip`` tells them, and as the new system is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bootc_live.landing.pivot.network import Interface, Route, network_files, parse_network

MAC = "52:54:00:12:34:56"
ADDRESSES: list[dict[str, Any]] = [
    {"ifname": "lo", "link_type": "loopback", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8, "scope": "host"}]},
    {
        "ifname": "eth0",
        "link_type": "ether",
        "address": MAC,
        "addr_info": [
            {"family": "inet", "local": "192.0.2.7", "prefixlen": 24, "scope": "global"},
            {"family": "inet6", "local": "2001:db8::7", "prefixlen": 64, "scope": "global"},
            {"family": "inet6", "local": "2001:db8::abcd", "prefixlen": 64, "scope": "global", "temporary": True},
            {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"},
        ],
    },
    {"ifname": "eth1", "link_type": "ether", "address": "52:54:00:00:00:01", "addr_info": []},
    {
        "ifname": "br0",
        "link_type": "ether",
        "linkinfo": {"info_kind": "bridge"},
        "addr_info": [{"local": "10.88.0.1", "prefixlen": 16, "scope": "global"}],
    },
]
ROUTES: list[dict[str, Any]] = [
    {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0", "metric": 100},
    {"dst": "198.51.100.0/24", "gateway": "192.0.2.2", "dev": "eth0"},
    {"dst": "192.0.2.0/24", "dev": "eth0"},
    {"dst": "default", "gateway": "fe80::2", "dev": "eth0"},
    {"dst": "10.88.0.0/16", "dev": "br0"},
]
STATIC = Interface(
    "eth0",
    MAC,
    ("192.0.2.7/24", "2001:db8::7/64"),
    (
        Route("default", "192.0.2.1", 100),
        Route("198.51.100.0/24", "192.0.2.2"),
        Route("default", "fe80::2"),
    ),
)
DYNAMIC = Interface("eth0", MAC, ("192.0.2.7/24",), (Route("default", "192.0.2.1"),), dynamic=True)


def test_what_ip_tells() -> None:
    assert parse_network(ADDRESSES, ROUTES) == (STATIC,)


def system(where: Path, *units: str) -> str:
    wants = where / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    for unit in units:
        (wants / unit).symlink_to(f"/usr/lib/systemd/system/{unit}")
    (where / "usr/sbin").mkdir(parents=True)
    (where / "usr/sbin/ip").touch()
    return str(where)


def test_networkd(tmp_path: Path) -> None:
    root = system(tmp_path, "systemd-networkd.service")
    (content,) = network_files(root, [STATIC], ["192.0.2.53"]).values()
    assert content == (
        f"[Match]\nMACAddress={MAC}\nName=eth0\n\n[Network]\nAddress=192.0.2.7/24\nAddress=2001:db8::7/64\n"
        "DNS=192.0.2.53\n\n[Route]\nGateway=192.0.2.1\nMetric=100\n\n[Route]\nGateway=192.0.2.2\n"
        "Destination=198.51.100.0/24\n\n[Route]\nGateway=fe80::2\n"
    )
    ((path, content),) = network_files(root, [DYNAMIC], []).items()
    assert path == "/run/systemd/network/zz-bootc-live-eth0.network"
    assert "DHCP=yes" in content
    assert "Address=" not in content.replace("MACAddress=", "")


def test_network_manager(tmp_path: Path) -> None:
    root = system(tmp_path, "NetworkManager.service")
    ((path, content),) = network_files(root, [STATIC], ["192.0.2.53"]).items()
    assert path == "/run/NetworkManager/system-connections/bootc-live-eth0.nmconnection"
    four, six = content.partition("[ipv4]\n")[2].split("[ipv6]\n")
    assert four == (
        "method=manual\naddress1=192.0.2.7/24\nroute1=0.0.0.0/0,192.0.2.1,100\n"
        "route2=198.51.100.0/24,192.0.2.2\ndns=192.0.2.53;\n\n"
    )
    assert six == "method=manual\naddress1=2001:db8::7/64\nroute1=::/0,fe80::2\n"
    (content,) = network_files(root, [DYNAMIC], []).values()
    assert content.count("method=auto") == 2


def test_neither(tmp_path: Path) -> None:
    root = system(tmp_path)
    found = network_files(root, [STATIC], [])
    unit, link = found.values()
    assert link == "-> ../bootc-live-network.service"
    lines = unit.splitlines()
    assert "ExecStart=-/usr/sbin/ip address replace 192.0.2.7/24 dev eth0" in lines
    assert "ExecStart=-/usr/sbin/ip route replace default via 192.0.2.1 dev eth0 metric 100" in lines
    assert network_files(root, [], []) == {}


@pytest.mark.parametrize("missing", ["usr/sbin/ip", "etc"])
def test_a_root_that_cannot_be_told(missing: str, tmp_path: Path) -> None:
    root = system(tmp_path)
    if missing == "usr/sbin/ip":
        (tmp_path / missing).unlink()
        assert network_files(root, [STATIC], []) == {}
    else:
        assert network_files(str(tmp_path / "nothing"), [STATIC], []) == {}
