"""The command line of a kernel that a running system starts."""

from __future__ import annotations

import pytest

from bootc_live.landing.pivot.by_kexec import next_kernel_cmdline
from bootc_live.landing.pivot.network import Interface, Route

RUNNING = "BOOT_IMAGE=/vmlinuz root=UUID=1234 ro quiet console=tty0 console=ttyS0,115200n8 -- single"
STATIC = Interface("eth0", "52:54:00:12:34:56", ("192.0.2.7/20",), (Route("default", "192.0.2.1"),))
SOURCE = "docker://registry.example/os:1"
BASE = f"root=bootc-live:{SOURCE} console=tty0 console=ttyS0,115200n8"


@pytest.mark.parametrize(
    ("more", "interfaces", "expected"),
    [
        ("", (), BASE),
        ("rw bootc.live.layout=erofs", (), f"{BASE} rw bootc.live.layout=erofs"),
        ("", (STATIC,), f"{BASE} ip=192.0.2.7::192.0.2.1:255.255.240.0::eth0:none"),
        ("ip=dhcp", (STATIC,), f"{BASE} ip=dhcp"),
        ("", (Interface("eth0", "", ("192.0.2.7/24",), dynamic=True),), BASE),
        ("", (Interface("eth0", "", ("2001:db8::7/64",)),), BASE),
        ("", (Interface("eth0", "", ("192.0.2.7/24",)),), f"{BASE} ip=192.0.2.7:::255.255.255.0::eth0:none"),
    ],
)
def test_command_line(more: str, interfaces: tuple[Interface, ...], expected: str) -> None:
    assert next_kernel_cmdline(SOURCE, more, RUNNING, interfaces) == expected
