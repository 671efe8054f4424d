"""The kernel is asked without programs: addresses, routes and tables of nf_tables, in a network of its own."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_live.base.errors import LandingError
from bootc_live.landing.pivot import firewall
from bootc_live.system import namespaces
from bootc_live.system.network import interfaces, netlink


@pytest.fixture
def apart() -> Callable[[Callable[[], object]], str]:
    """What calls a function in a new network, and returns what it gave, as text."""

    def call(function: Callable[[], object]) -> str:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                namespaces.unshare(namespaces.NEWNET)
                os.write(writing, str(function()).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        with open(reading, encoding="utf-8") as pipe:
            said = pipe.read()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return said

    return call


def add_table(name: str, family: int) -> None:
    """As ``nft add table`` does."""
    subsystem = struct.pack("=BB", 0, 0) + struct.pack(">H", 10)
    encoded = name.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(encoded), 1) + encoded + bytes(-len(encoded) % 4)
    with netlink.Netlink(netlink.NETFILTER) as kernel:
        begin = kernel.message(16, subsystem)
        table = kernel.message(10 << 8, struct.pack("=BBH", family, 0, 0) + attribute, 0x404)
        kernel.tell(begin, table, kernel.message(17, subsystem))


def test_tables_of_all_families_go(apart: Callable[[Callable[[], object]], str]) -> None:
    def work() -> list[bool]:
        found = [netlink.has_nf_tables()]
        for family in (1, 2, 7, 10):
            add_table("a", family)
        add_table("b", 2)
        firewall.check_flush()
        found.append(netlink.has_nf_tables())
        firewall.flush_firewall()
        found.append(netlink.has_nf_tables())
        # Also without any.
        firewall.flush_firewall()
        netlink.flush_nf_tables()
        return found

    assert apart(work) == "[False, True, False]"


def test_older_tables_without_their_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told that rules were removed that are there."""
    (tmp_path / "names").write_text("filter\nnat\n")
    monkeypatch.setattr(firewall, "_LEGACY", {str(tmp_path / "names"): "iptables-of-nobody"})
    with pytest.raises(LandingError, match="has rules of iptables-of-nobody, which is missing"):
        firewall.check_flush()


def test_addresses_and_routes(apart: Callable[[Callable[[], object]], str]) -> None:
    def work() -> str:
        subprocess.run(["ip", "tuntap", "add", "mode", "tap", "name", "eth7"], check=True)
        for _ in ("new", "there already"):
            interfaces.set_up("eth7")
            interfaces.add_address("eth7", "192.0.2.7/24")
            interfaces.add_address("eth7", "2001:db8::7/64")
            interfaces.add_route("eth7", "default", "192.0.2.1")
            interfaces.add_route("eth7", "198.51.100.0/24", "192.0.2.2", 77)
            interfaces.add_route("eth7", "2001:db8:1::/48", "2001:db8::1")
        argv = ["ip", "-json"]
        return json.dumps(
            [
                json.loads(subprocess.run([*argv, *words], check=True, stdout=subprocess.PIPE).stdout)
                for words in (["address", "show", "eth7"], ["route"], ["-6", "route"])
            ]
        )

    addresses, routes, routes6 = json.loads(apart(work))
    assert "UP" in addresses[0]["flags"]
    given = {f"{each['local']}/{each['prefixlen']}" for each in addresses[0]["addr_info"] if each["scope"] == "global"}
    assert given == {"192.0.2.7/24", "2001:db8::7/64"}
    by = {(route["dst"], route["gateway"], route.get("metric")) for route in routes if "gateway" in route}
    assert by == {("default", "192.0.2.1", None), ("198.51.100.0/24", "192.0.2.2", 77)}
    assert ("2001:db8:1::/48", "2001:db8::1") in {(route["dst"], route.get("gateway")) for route in routes6}


def test_what_the_kernel_refuses() -> None:
    with pytest.raises(OSError, match="no interface"):
        interfaces.set_up("nosuch0")
    loopback = socket.if_indextoname(1)
    with pytest.raises(OSError, match=r"unreachable|not permitted|Invalid"):
        interfaces.add_route(loopback, "198.51.100.0/24", "203.0.113.9")
